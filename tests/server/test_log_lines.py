"""Lines of the log: one JSON object each, whatever is logged; the fields that all have; the level while it runs."""

import json
import subprocess
import sys
from typing import Any

import pytest

START = """
import logging, sys, threading, warnings
import structlog
from service.log import configure_log, log_uncaught, set_level
from service.standard_streams import drain_streams, never_block
never_block()
configure_log("info", "json", worker=3)
log_uncaught("json")
log = structlog.get_logger("test")
"""


def logged(code: str) -> list[dict[str, Any]]:
    """Run code in a process with a log, and return its lines."""
    program = subprocess.run([sys.executable, "-c", START + code], capture_output=True, check=True)
    assert all(len(line) < 4096 for line in program.stderr.splitlines())
    return [json.loads(line, parse_constant=pytest.fail) for line in program.stderr.decode().splitlines()]


ODD_FIELDS = r"""
cycle = {}
cycle["c"] = cycle
for fields in (
    {"number": float("nan")},
    {"nested": {("a", "b"): 1}},
    {"nested": [1, {2: {"x", "y"}}]},
    {"text": "a\nb\x00\u2028\u2029\x85\udc80"},
    {"text": "\u2028" * 3000},
    {"text": "\udc80" * 1000},
    {"text": "\U0001F600" * 1100},
    {"bytes": b"\xff" * 5000},
    {f"name-{number}": "x" * 50 for number in range(500)},
    {"x" * 5000: 1},
    cycle,
    {"request_id": object()},
    {"error": BaseException("x" * 9999)},
):
    log.warning("event", **fields)
"""


def test_every_line_is_a_json_object_that_a_pipe_takes_at_once() -> None:
    lines = logged(ODD_FIELDS)
    assert len(lines) == 13
    for line in lines:
        assert (line["event"], line["level"], line["worker"]) == ("event", "warning", 3)
        assert line["timestamp"].endswith("Z")


def test_lines_of_a_call_and_of_a_batch_name_their_calls() -> None:
    lines = logged("""
from service.call_record import BatchRecord, CallRecord, current_batch, current_call
log.info("before")
current_call.set(CallRecord("7", "grpc", 0.0))
log.info("in a call")
log.info("about another call", request_id="8")
current_batch.set(BatchRecord(0.0, request_ids=tuple(map(str, range(100)))))
log.info("in a batch")
""")
    assert [line.get("request_id") for line in lines] == [None, "7", "8", None]
    assert lines[3]["request_ids"] == ["0", "1", "2", "3", "4"]


def test_user_ids_are_plain_hashed_or_left_out() -> None:
    plain, hashed, again, none = logged("""
for how in ("plain", "hashed", "hashed", "none"):
    configure_log("info", "json", how)
    log.info("x", user="alice", callers=[{"user": "alice", "calls": 3}, {"user": None}])
""")
    assert (plain["user"], plain["callers"]) == ("alice", [{"user": "alice", "calls": 3}, {"user": None}])
    assert hashed["user"] == hashed["callers"][0]["user"] == again["user"]
    assert len(hashed["user"]) == 16
    assert "alice" not in str(hashed)
    assert "user" not in none
    assert none["callers"] == [{"calls": 3}, {}]


def test_rows_that_a_driver_quotes_are_left_out() -> None:
    code = "".join(f"configure_log('info', {style!r}){QUOTES}" for style in ("json", "console"))
    program = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, check=True)
    assert program.stderr.count("null value") == 4
    assert "secret" not in program.stderr


QUOTES = """
try:
    try:
        raise RuntimeError("null value\\nDETAIL:  Failing row contains (secret).")
    except RuntimeError as error:
        raise ValueError("null value, too\\nDETAIL:  Failing row contains (secret).") from error
except ValueError:
    log.exception("failed")
"""


def test_the_level_changes_while_the_process_runs() -> None:
    lines = logged("""
log.debug("one"); set_level("debug"); log.debug("two"); set_level("error"); log.warning("three"); log.error("four")
""")
    assert [line["event"] for line in lines] == ["two", "four"]


def test_whatever_is_printed_warned_or_raised_becomes_lines() -> None:
    lines = logged("""
import asyncio, traceback
print("printed", "twice\\nand again", file=sys.stderr)
warnings.warn("deprecated")
logging.getLogger("library").error("logged %s", 1)
def fail():
    raise KeyError("raised")
threads = [threading.Thread(target=fail) for _ in range(20)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
try:
    fail()
except KeyError:
    traceback.print_exc()
asyncio.run(asyncio.sleep(0))
""")
    events = [line["event"] for line in lines]
    assert events[:2] == ["printed twice", "and again"]
    assert "deprecated" in events[2]
    assert events[3] == "logged 1"
    assert events.count("uncaught exception in a thread") == 20
    assert events[-1] == "KeyError: 'raised'"
