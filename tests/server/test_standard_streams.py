"""Lines on standard error: whole, in order, never waited for, and counted where they are lost."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

from service.standard_streams import LineStream

LINES_PER_PROCESS = 2000
NOISY = f"""
import structlog
from service.log import configure_log
from service.standard_streams import never_block
never_block()
configure_log("info", "json")
log = structlog.get_logger("noisy")
def fail(depth):
    return fail(depth - 1) if depth else {{}}["k" * 5000]
for number in range({LINES_PER_PROCESS}):
    try:
        fail(number % 40)
    except KeyError:
        log.exception("é" * number, number=number, names=["n" * 100] * 100)
"""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_lines_of_processes_that_share_a_pipe_parse_and_hold_back_nobody() -> None:
    reading, writing = os.pipe()
    processes = [subprocess.Popen([sys.executable, "-c", NOISY], stderr=writing) for _ in range(2)]
    os.close(writing)
    with os.fdopen(reading, "rb") as log:
        lines = log.readlines()
    assert [process.wait() for process in processes] == [0, 0]
    assert max(map(len, lines)) <= select.PIPE_BUF
    numbers = [json.loads(line)["number"] for line in lines]
    assert set(numbers) <= set(range(LINES_PER_PROCESS))
    assert numbers.count(0) == 2


def test_a_long_line_keeps_its_event_and_the_end_of_its_traceback() -> None:
    noisy = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, check=True)
    line = json.loads(noisy.stderr.splitlines()[39])
    assert line["event"] == "é" * 39
    assert line["exception"][0]["exc_type"] == "KeyError"
    assert line["exception"][0]["frames"][-1]["name"] == "fail"


def test_lines_are_written_in_order_and_a_begun_one_waits_for_its_end(pipe: tuple[int, int]) -> None:
    stream = LineStream(pipe[1])
    print("one", "two", file=stream)
    stream.write("three")
    stream.drain(30)
    assert os.read(pipe[0], 100) == b"one two\n"
    stream.write(" four\nfive\nsix")
    stream.drain(30)
    assert os.read(pipe[0], 100) == b"three four\nfive\n"
    assert stream.dropped == 0


def test_lines_that_nobody_reads_are_dropped_and_counted(pipe: tuple[int, int]) -> None:
    stream = LineStream(pipe[1], capacity=10)
    line = "x" * (select.PIPE_BUF - 1) + "\n"
    for _ in range(1000):
        stream.write(line)
    assert stream.dropped > 0
    written = 1000 - stream.dropped
    read = b""
    while len(read) < written * len(line):
        read += os.read(pipe[0], 2**16)
    stream.drain(30)
    assert read == line.encode() * written


def test_a_descriptor_that_others_made_non_blocking_is_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    stream = LineStream(pipe[1])
    text = "".join(f"{number}\n" for number in range(100_000))
    stream.write(text)
    read = b""
    while len(read) < len(text):
        read += os.read(pipe[0], 2**16)
    assert read.decode() == text
    assert stream.dropped == 0


def test_a_line_that_fits_only_in_part_does_not_swallow_the_next(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = os.write, [4, 0, 100]

    def write_some(descriptor: int, data: bytes) -> int:
        if descriptor != pipe[1]:
            return write(descriptor, data)
        most = room.pop(0)
        if not most:
            raise OSError("No space left on device")
        return write(descriptor, data[:most])

    monkeypatch.setattr(os, "write", write_some)
    stream = LineStream(pipe[1])
    stream.write("first line\n")
    stream.write("second line\n")
    stream.drain(30)
    assert os.read(pipe[0], 100) == b"firs\nsecond line\n"
    assert stream.dropped == 1
