"""The log lines of calls: which calls have one, at which level, and what it tells."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.call_record import BatchRecord, CallRecord
from service.errors import DatabaseUnavailable, DeadlineExceeded, Overloaded, RateLimited, RequestError, TaskNotFound
from service.log import Level, set_level
from service.model import Caller
from service.rpc.call_log import CallLog
from service.rpc.status import CODES
from service.rpc.top_counts import TopCounts
from tests.waiting import eventually

METHOD = "/taskwell.v1.TaskService/GetTask"


class Context:
    def peer(self) -> str:
        return "ipv4:127.0.0.1:4711"


def record_of(user: str = "alice", phase: str | None = None) -> CallRecord:
    """A call that has waited for its batch for a second, and is in this phase of it for another."""
    record = CallRecord("7", "grpc", 0.0)
    record.caller = Caller(user)
    record.enter_queue(0.0)
    if phase != "queue":
        record.leave_queue(1.0, BatchRecord(1.0))
        assert record.batch
        record.batch.enter(phase, 1.0)
    return record


def fail(log: CallLog, error: RequestError, *, record: CallRecord | None = None, seconds: float = 0.01) -> None:
    log.on_failure(METHOD, CODES[type(error)], error, error.__cause__, record or record_of(), seconds, Context())


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """All lines, also those at debug, of a log whose level is info."""
    set_level("debug")
    monkeypatch.setattr(Level, "is_debug", False)
    with capture_logs() as lines:
        yield lines
    set_level("warning")


async def test_a_fast_success_has_no_line(lines: list[Any]) -> None:
    log = CallLog(slow_seconds=0.5)
    assert not log.wants(0.49)
    log.on_success(METHOD, record_of(), 0.49, Context())
    assert lines == []


async def test_a_slow_call_is_a_warning_with_peer_and_the_time_in_each_phase(lines: list[Any]) -> None:
    log = CallLog(slow_seconds=0.5)
    assert log.wants(0.5)
    log.on_success(METHOD, record_of(), 0.5, Context())
    fail(log, TaskNotFound(), seconds=0.5)
    assert [(line["log_level"], line["code"], line["peer"]) for line in lines] == [
        ("warning", "OK", "ipv4:127.0.0.1:4711"),
        ("warning", "NOT_FOUND", "ipv4:127.0.0.1:4711"),
    ]
    for line in lines:
        assert (line["queue_seconds"], line["connection_seconds"], line["statement_seconds"]) == (1.0, 0.0, 0.0)
        assert (line["method"], line["user"], line["api"], line["seconds"]) == (METHOD, "alice", "grpc", 0.5)
        assert (line["request_id"], line["phase"]) == ("7", "queue")


@pytest.mark.parametrize(
    ("phase", "level"), [("queue", "info"), ("connection", "warning"), ("statement", "warning"), (None, "info")]
)
async def test_a_deadline_is_a_warning_if_the_database_was_slow(
    lines: list[Any], phase: str | None, level: str
) -> None:
    log = CallLog()
    fail(log, DeadlineExceeded(), record=record_of(phase=phase), seconds=5)
    log.on_cancelled(METHOD, "DEADLINE_EXCEEDED", record_of(phase=phase), 5, Context())
    assert [line["log_level"] for line in lines] == [level] * 2
    if level == "warning":
        assert all(line["phase"] == phase and line[f"{phase}_seconds"] > 1 for line in lines)


async def test_successes_are_sampled_by_their_share(lines: list[Any]) -> None:
    chances = iter([0.0, 0.24, 0.25, 0.9])
    log = CallLog(success_sample=0.25, chance=lambda: next(chances))
    for number in range(4):
        assert log.wants(0.01)
        log.on_success(METHOD, record_of(f"user-{number}"), 0.01, Context())
    assert [(line["log_level"], line["user"]) for line in lines] == [("info", "user-0"), ("info", "user-1")]


async def test_a_flood_of_failures_is_ten_lines_and_their_number(lines: list[Any]) -> None:
    log = CallLog()
    for _ in range(100):
        fail(log, DeadlineExceeded(), record=record_of(phase="statement"))
    await eventually(lambda: lines[-1]["event"] == "more calls like these")
    assert [line["log_level"] for line in lines[:-1]] == ["warning"] * 10 + ["debug"] * 90
    assert (lines[-1]["calls"], lines[-1]["reason"], lines[-1]["log_level"]) == (90, "DEADLINE_EXCEEDED", "warning")


async def test_rows_in_the_message_of_a_driver_are_not_logged(lines: list[Any]) -> None:
    error = DatabaseUnavailable()
    error.__cause__ = RuntimeError("no\nDETAIL:  Failing row contains (alice, secret).")
    fail(CallLog(), error)
    assert lines[0]["cause"] == "RuntimeError: no"


async def test_the_callers_that_are_refused_most_are_named_once_an_interval(lines: list[Any]) -> None:
    log = CallLog(report_interval=0.01)
    for _ in range(20):
        fail(log, RateLimited(seconds=1), record=record_of("eve"))
    for number in range(300):
        fail(log, RateLimited(seconds=1), record=record_of(f"user-{number}"))
    assert not log.wants(0.01)
    await eventually(lambda: lines[-1]["event"] == "callers refused most")
    [line] = [line for line in lines if line["event"] != "rpc"]
    assert (line["log_level"], line["refused"], len(line["callers"])) == ("warning", 320, 5)
    assert line["callers"][0] == {"user": "eve", "refused": 20}
    assert {line["log_level"] for line in lines if line["event"] == "rpc"} == {"debug"}


async def test_during_an_overload_the_callers_that_call_most_are_named(lines: list[Any]) -> None:
    log = CallLog(report_interval=0.01)
    fail(log, Overloaded(), record=record_of("bob"))
    for number in range(50):
        assert log.wants(0.01)
        log.on_success(METHOD, record_of("eve" if number % 2 else "bob"), 0.01, Context())
        fail(log, TaskNotFound(), record=record_of("eve"))
    await eventually(lambda: lines[-1]["event"] == "callers that call most")
    assert lines[-1]["callers"] == [{"user": "eve", "calls": 75}, {"user": "bob", "calls": 25}]
    assert lines[-2]["callers"] == [{"user": "bob", "refused": 1}]
    await eventually(lambda: not log.wants(0.01))


def test_counters_are_bounded_and_find_who_is_frequent() -> None:
    counts: TopCounts[str] = TopCounts(capacity=10)
    for number in range(10_000):
        counts.count(f"rare-{number}")
        if number % 5 == 0:
            counts.count("frequent")
    [(name, at_least), *others] = counts.most(10)
    assert (name, counts.total, len(others)) == ("frequent", 12_000, 9)
    assert 1000 < at_least <= 2000
