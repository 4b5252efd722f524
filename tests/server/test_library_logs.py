"""Lines that libraries log: no header values, no tracebacks for what clients do, no floods."""

import json
import logging
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.rpc.test_hostile_metadata import send
from tests.server.starting import serving

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


def log_failure(error: BaseException) -> None:
    """Log as grpc does, under a name for each kind of error."""
    logging.getLogger(f"grpc.{type(error).__name__}").error("Failed with %s", TOKEN, exc_info=error)


def test_header_values_that_are_no_utf_8_are_not_logged(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log, serving(tmp_path, ["--log-level", "debug"], log=log) as server:
        for _ in range(20):
            for name in (b"authorization", b"x-user-id", b"other"):
                send(server.address, [(name, b"Bearer " + TOKEN.encode() + b"\xff")])
        assert server.end() == 0
    text = (tmp_path / "log").read_text()
    assert TOKEN not in text
    assert "Traceback" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    about_headers = [line for line in lines if line.get("logger") == "grpc._cython.cygrpc"]
    assert {line["event"] for line in about_headers} == {"Invalid encoding on %s"}
    assert not any("exception" in line for line in lines)
    assert len(about_headers) + sum(line["skipped"] for line in about_headers) < 61
    assert len(about_headers) < 60


class ExecuteBatchError(Exception):
    """As grpc.aio raises when a client has left."""


ExecuteBatchError.__module__ = "grpc._cython.cygrpc"


@pytest.mark.parametrize(
    "error", [ExecuteBatchError(), ConnectionResetError(), UnicodeDecodeError("utf-8", TOKEN.encode(), 0, 1, "bad")]
)
def test_errors_of_clients_that_left_are_one_line_a_second_without_traceback(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("service.log.time.monotonic", lambda: now)
    with capture_logs() as lines:
        for _ in range(5):
            log_failure(error)
        now += 1.5
        log_failure(error)
    kind = type(error).__name__
    assert [(line["event"], line["error"], line["skipped"]) for line in lines] == [
        ("Failed with %s", kind, 0),
        ("Failed with %s", kind, 4),
    ]
    assert not any("exc_info" in line for line in lines)


def test_errors_of_our_own_in_a_library_keep_their_traceback() -> None:
    with capture_logs() as lines:
        for _ in range(3):
            log_failure(KeyError("ours"))
    assert [type(line["exc_info"][1]) for line in lines] == [KeyError] * 3
