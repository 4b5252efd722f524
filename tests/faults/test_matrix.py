"""The short form of `make faults-matrix`: a dozen faults, each alone, and the proxy's handling of messages."""

from dataclasses import replace

import pytest

from tests.faults.anomalies import BUSY_MACHINE
from tests.faults.campaign import SETTINGS
from tests.faults.catalogue import FAULTS
from tests.faults.fault import POSTGRESQL
from tests.faults.matrix import METHODS, run_case
from tests.faults.system import running_system
from tests.messages import STARTUP, Messages

_ROUNDS = 20
_QUICK = (
    "connections reset",
    "connections half closed",
    "cut within a request",
    "cut after a request",
    "cut within a row",
    "reset before ReadyForQuery",
    "garbage in a response",
    "57P01 in a statement",
    "57P03 for new sessions",
    "XX000 in a statement, then cut",
    "statements cancelled",
    "type of a column changed",
)


def test_no_fault_loses_or_doubles_writes_or_is_internal() -> None:
    left = {fault.name: replace(fault, seconds=0.1) for fault in FAULTS if fault.name in _QUICK}
    assert left.keys() == set(_QUICK)
    methods: set[str] = set()
    with running_system(POSTGRESQL, settings=SETTINGS) as system:
        # How many faults a round has time for depends on the machine.
        for seed in range(_ROUNDS):
            case = run_case(system, list(left.values()), calls=1200, seed=seed, calls_between=8)
            assert [str(anomaly) for anomaly in case.anomalies if anomaly.kind not in BUSY_MACHINE] == []
            methods |= {call.method for call in case.during()}
            left = {name: fault for name, fault in left.items() if name not in {f.name for f in case.history.faults}}
            if not left:
                break
    assert left == {}
    assert methods == set(METHODS)


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_the_proxy_finds_the_messages_of_the_protocol(piece: int) -> None:
    ssl_request = b"\0\0\0\x08\x04\xd2\x16\x2f"
    startup = b"\0\0\0\x0f\0\x03\0\0user\0a\0"
    query, sync = b"Q\0\0\0\x0dSELECT 1\0", b"S\0\0\0\x04"
    sent = ssl_request + startup + query + sync
    messages = Messages(from_server=False)
    found = [
        (message.kind, message.data)
        for at in range(0, len(sent), piece)
        for message in messages.split(sent[at : at + piece])
    ]
    assert found == [(STARTUP, ssl_request), (STARTUP, startup), (b"Q", query), (b"S", sync)]


def test_bytes_of_another_protocol_pass_the_proxy_as_they_are() -> None:
    messages = Messages(from_server=False)
    preface = b"PRI * HTTP/2.0\r\n\r\n"
    assert [message.data for message in messages.split(preface)] == [preface]
