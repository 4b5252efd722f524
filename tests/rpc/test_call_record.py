"""The record of a call: ids that are taken or made, and the time in each phase."""

from types import SimpleNamespace

import pytest

from service.call_record import BatchRecord, CallRecord, RequestIds


def test_a_request_id_of_the_caller_is_taken() -> None:
    assert RequestIds().of([("x-user-id", "alice"), ("x-request-id", "req 1/é"[:5])]) == "req 1"


@pytest.mark.parametrize("bad", ["", "x" * 129, "é", "a\nb", "a\x00", "a\x7f", b"bytes", b"\xff"])
def test_a_request_id_that_is_not_printable_or_too_long_is_replaced(bad: str | bytes) -> None:
    ids = RequestIds()
    made = [ids.of([("x-request-id", bad)]), ids.of([]), RequestIds().of([])]
    assert len({*made, bad}) == 4
    assert all(len(each) < 40 and each.isascii() and each.isprintable() for each in made)


@pytest.mark.parametrize(
    ("header", "trace_id"),
    [
        (f"00-{'1' * 32}-{'2' * 16}-00", "1" * 32),
        (f"cc-{'1' * 32}-{'2' * 16}-01-later-versions", "1" * 32),
        (f"00-{'0' * 32}-{'2' * 16}-01", None),
        (f"ff-{'1' * 32}-{'2' * 16}-01", None),
        (f"00-{'1' * 32}-{'2' * 16}-01\nmore", None),
        (b"\xff", None),
    ],
)
def test_the_trace_of_a_call_is_that_of_its_caller(header: str | bytes, trace_id: str | None) -> None:
    details = SimpleNamespace(invocation_metadata=[("x-user-id", "alice"), ("traceparent", header)])
    assert CallRecord("1", "grpc", 0.0, details).trace_id == trace_id
    assert CallRecord("1", "grpc", 0.0).trace_id is None


def test_phases_add_up_while_and_after_they_last() -> None:
    call = CallRecord("1", "grpc", 0.0)
    assert call.seconds(0.0) == {"queue": 0.0, "connection": 0.0, "statement": 0.0}
    call.enter_queue(1.0)
    assert (call.phase, call.seconds(3.0)) == ("queue", {"queue": 2.0, "connection": 0.0, "statement": 0.0})
    batch = BatchRecord(4.0, request_ids=("1",))
    call.leave_queue(4.0, batch)
    batch.enter("connection", 4.0)
    batch.enter("statement", 5.0)
    assert (call.phase, call.seconds(8.0)) == ("statement", {"queue": 3.0, "connection": 1.0, "statement": 3.0})
    batch.enter(None, 9.0)
    assert not call.phase
    assert call.seconds(10.0) == {"queue": 3.0, "connection": 1.0, "statement": 4.0}


def test_a_call_that_waits_again_keeps_the_times_of_its_first_batch() -> None:
    call = CallRecord("1", "grpc", 0.0)
    for start in (0.0, 10.0):
        call.enter_queue(start)
        batch = BatchRecord(start + 1)
        call.leave_queue(start + 1, batch)
        batch.enter("connection", start + 1)
        batch.enter("statement", start + 3)
        batch.enter(None, start + 6)
    assert call.seconds(20.0) == {"queue": 2.0, "connection": 4.0, "statement": 6.0}
