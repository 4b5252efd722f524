"""The log lines of an outage: one when it begins, one when it ends, few where it flaps."""

import pytest
from structlog.testing import capture_logs

from service.errors import DatabaseUnavailable
from service.outage import Outage
from service.rpc.call_log import CallLog
from tests.rpc.test_call_log import fail


def test_an_outage_is_a_line_at_its_begin_and_one_at_its_end_however_many_calls_fail() -> None:
    now = 1000.0
    outage = Outage("database is away", "database is back", clock=lambda: now)
    log = CallLog(outages=[outage])
    with capture_logs() as lines:
        for _ in range(2000):
            outage.begin(ConnectionRefusedError("connection refused\n\tIs the server running?"))
            fail(log, DatabaseUnavailable())
            now += 0.002
        outage.end()
        outage.end()
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("database is away", "warning"),
        ("database is back", "warning"),
    ]
    assert lines[0]["cause"] == "ConnectionRefusedError: connection refused Is the server running?"
    assert (lines[1]["seconds"], lines[1]["failed_calls"]) == (pytest.approx(4.0), 2000)


def test_a_long_outage_is_named_once_a_minute_and_a_flapping_one_every_five_seconds() -> None:
    now = 1000.0
    outage = Outage("database is away", "database is back", clock=lambda: now)
    with capture_logs() as lines:
        for _ in range(130):
            outage.begin("silent")
            now += 1
        outage.end()
        assert len(lines) == 4
        for _ in range(100):
            outage.begin("silent")
            now += 0.1
            outage.end()
    assert len(lines) <= 4 + 2 * 3
