"""Faults of the connections between the service and the database, or the pooler before it, made by a proxy.

With a pooler, a proxy behind it makes some of the same faults on the pooler's connections.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests import messages
from tests.faults.fault import PGBOUNCER, Fault, Injection
from tests.faults.system import System
from tests.messages import STARTUP, Action, Rule
from tests.proxy import Proxy

_ALWAYS = 10**9
_BEHIND = frozenset({PGBOUNCER})


def _proxy(system: System, *, behind: bool) -> Proxy:
    proxy = system.behind_pooler if behind else system.proxy
    assert proxy, "the system has no such proxy"
    return proxy


def _by_proxy(break_: Callable[[Proxy], None], heal: Callable[[Proxy], None], *, behind: bool = False) -> Injection:
    @contextmanager
    def broken(system: System) -> Iterator[None]:
        proxy = _proxy(system, behind=behind)
        break_(proxy)
        try:
            yield
        finally:
            heal(proxy)

    return broken


def _message(kind: bytes, action: Action, *, times: int = 3, behind: bool = False) -> Injection:
    """Treat messages of one kind so; the kind says which side sends them."""

    @contextmanager
    def treated(system: System) -> Iterator[None]:
        proxy = _proxy(system, behind=behind)
        rule = Rule((kind,), action, from_server=kind in _FROM_SERVER, times=times)
        proxy.apply(rule)
        if kind in _AT_STARTUP:
            proxy.cut()
        try:
            yield
        finally:
            proxy.remove(rule)

    return treated


@contextmanager
def responses_lost(system: System) -> Iterator[None]:
    """Lose the responses of several statements that took effect."""
    proxy = _proxy(system, behind=False)
    for _ in range(5):
        proxy.swallowed.clear()
        proxy.swallow_answers()
        proxy.swallowed.wait(0.2)
    yield


@contextmanager
def slow_start(system: System) -> Iterator[None]:
    """Refuse connections for a while and then take a second for each, as a suspended database that wakes up."""
    proxy = _proxy(system, behind=False)
    proxy.stop_listening()
    try:
        time.sleep(2)
    finally:
        proxy.listen_again()
    with _message(STARTUP, messages.delay(1), times=_ALWAYS)(system):
        yield


def _nothing(_proxy: Proxy) -> None:
    pass


_BIND, _SYNC = b"B", b"S"
_ROW, _COMPLETE, _READY, _AUTHENTICATION = b"D", b"C", b"Z", b"R"
_FROM_SERVER = {_ROW, _COMPLETE, _READY, _AUTHENTICATION}
_AT_STARTUP = {STARTUP, _AUTHENTICATION}

FAULTS = (
    Fault("connections cut", _by_proxy(Proxy.cut, _nothing), seconds=0),
    Fault("connections reset", _by_proxy(Proxy.reset, _nothing), seconds=0),
    Fault("connections half closed", _by_proxy(Proxy.half_close, _nothing), seconds=0),
    Fault("connections closed at once", _by_proxy(Proxy.refuse, Proxy.accept), seconds=0.7),
    Fault("connections refused", _by_proxy(Proxy.stop_listening, Proxy.listen_again), seconds=0.7),
    Fault("connections refused, then slow", slow_start, seconds=1.5),
    Fault("network silent", _by_proxy(Proxy.hold, Proxy.flow), seconds=0.7),
    Fault("connections silent for good", _by_proxy(Proxy.freeze, _nothing), seconds=0, recovers_within=10),
    Fault("connections silent, one broken", _by_proxy(Proxy.lose_peers, _nothing), seconds=0, recovers_within=10),
    Fault("responses lost", responses_lost, seconds=0),
    Fault("cut before a request", _message(_BIND, messages.cut_before)),
    Fault("cut within a request", _message(_BIND, messages.cut_within)),
    Fault("cut after a request", _message(_SYNC, messages.cut_after)),
    Fault("cut before a row", _message(_ROW, messages.cut_before)),
    Fault("cut within a row", _message(_ROW, messages.cut_within)),
    Fault("cut before CommandComplete", _message(_COMPLETE, messages.cut_before)),
    Fault("cut after CommandComplete", _message(_COMPLETE, messages.cut_after)),
    Fault("reset before ReadyForQuery", _message(_READY, messages.reset)),
    Fault("request half closed", _message(_SYNC, messages.half_close)),
    Fault("silent from a request on", _message(_BIND, messages.silence), recovers_within=10),
    Fault("silent within a response", _message(_COMPLETE, messages.silence), recovers_within=10),
    Fault("silent at the start of a session", _message(_AUTHENTICATION, messages.silence), recovers_within=12),
    Fault("ReadyForQuery left out", _message(_READY, messages.drop), recovers_within=10),
    Fault("responses late by 0.2 s", _message(_READY, messages.delay(0.2), times=20)),
    Fault("responses byte by byte", _message(_ROW, messages.drip(0.001), times=20)),
    Fault("garbage in a request", _message(_BIND, messages.garbage)),
    Fault("garbage in a response", _message(_ROW, messages.garbage)),
    Fault("garbage at the start of a session", _message(_AUTHENTICATION, messages.garbage)),
    Fault("57P01 in a statement", _message(_BIND, messages.error("57P01"), times=20)),
    Fault("57P03 for new sessions", _message(STARTUP, messages.error("57P03"), times=_ALWAYS)),
    Fault("53300 for new sessions", _message(STARTUP, messages.error("53300"), times=_ALWAYS)),
    Fault("28P01 for new sessions", _message(STARTUP, messages.error("28P01"), times=_ALWAYS)),
    Fault("XX000 for new sessions", _message(STARTUP, messages.error("XX000", "ERROR"), times=_ALWAYS)),
    Fault("XX000 in a statement, then cut", _message(_BIND, messages.error("XX000", "ERROR"), times=20)),
    Fault("08006 in a statement, then cut", _message(_BIND, messages.error("08006", "ERROR"), times=20)),
    Fault("behind the pooler: cut", _by_proxy(Proxy.cut, _nothing, behind=True), _BEHIND, seconds=0),
    Fault("behind the pooler: refused", _by_proxy(Proxy.refuse, Proxy.accept, behind=True), _BEHIND, seconds=0.7),
    Fault("behind the pooler: silent", _by_proxy(Proxy.hold, Proxy.flow, behind=True), _BEHIND, seconds=0.7),
    Fault(
        "behind the pooler: silent for good",
        _by_proxy(Proxy.freeze, _nothing, behind=True),
        _BEHIND,
        seconds=0,
        # PgBouncer hands out one silent connection after the other, until statements on all of them were given up.
        recovers_within=25,
    ),
    Fault("behind the pooler: cut in a response", _message(_COMPLETE, messages.cut_before, behind=True), _BEHIND),
    Fault("behind the pooler: cut after a request", _message(_SYNC, messages.cut_after, behind=True), _BEHIND),
)
