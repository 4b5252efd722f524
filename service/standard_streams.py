"""Standard output and standard error that neither block nor fail.

A full disk, a pipe that nobody reads or a stopped terminal must not stop a server. While a process serves, `sys.stdout`
and `sys.stderr` are therefore streams that hand whole lines to a thread. Lines that cannot be written are dropped and
counted.
"""

import atexit
import io
import os
import select
import sys
import threading
from contextlib import suppress
from queue import SimpleQueue

_CAPACITY = 4096
"""Maximum lines waiting to be written; further lines are dropped."""

_LAST_LINES = 1.0
"""Time to wait at exit for the last lines to be written (s)."""


class LineStream(io.TextIOBase):
    """A text stream on a file descriptor whose `write` never blocks and never raises.

    A line is one write to the descriptor, newline included, so that lines of several processes do not mix. (On a pipe
    this holds for lines of at most `select.PIPE_BUF` bytes.)
    """

    encoding = "utf-8"

    def __init__(self, descriptor: int, capacity: int = _CAPACITY) -> None:
        self._descriptor = descriptor
        self._capacity = capacity
        self._waiting: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()
        self._begun = ""
        self._overflowed = 0
        self._failed = 0
        self._torn = False

    @property
    def dropped(self) -> int:
        """The number of lines that could not be written."""
        return self._overflowed + self._failed

    def write(self, text: str) -> int:
        """Queue the lines of a text; what follows the last newline waits for the rest of its line."""
        with self._lock:
            whole, newline, self._begun = (self._begun + text).rpartition("\n")
            if newline:
                self._queue(f"{whole}\n".encode(errors="backslashreplace"))
        return len(text)

    def drain(self, seconds: float = _LAST_LINES) -> None:
        """Wait until everything queued so far is written or dropped, or until the time is up."""
        if self._thread:
            reached = threading.Event()
            self._waiting.put(reached)
            reached.wait(seconds)

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def _queue(self, lines: bytes) -> None:
        if self._waiting.qsize() >= self._capacity or not self._is_running():
            self._overflowed += 1
        else:
            self._waiting.put(lines)

    def _is_running(self) -> bool:
        """Start the thread with the first line; False if the system has no thread for it."""
        if self._thread is None:
            thread = threading.Thread(target=self._write_all, name="standard stream", daemon=True)
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread
        return self._thread is not None

    def _write_all(self) -> None:
        while True:
            item = self._waiting.get()
            if isinstance(item, bytes):
                self._write_one(item)
            else:
                item.set()

    def _write_one(self, lines: bytes) -> None:
        # The part of a line that fitted on the disk must not swallow the next one.
        rest = memoryview(b"\n" + lines if self._torn else lines)
        while rest:
            try:
                written = os.write(self._descriptor, rest)
            except BlockingIOError:  # somebody made the descriptor non-blocking; this thread may wait
                select.select((), (self._descriptor,), ())
            except OSError:
                self._failed += 1
                return
            else:
                rest = rest[written:]
                self._torn = bool(rest)


def open_missing() -> None:
    """Open the standard descriptors that this process was started without, on the null device.

    Otherwise the first file or socket that the process opens becomes its standard error, and log lines end up there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


_streams: list[LineStream] = []


def never_block() -> None:
    """Replace the standard output and the standard error of this process by streams that neither block nor fail."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = LineStream(descriptor)
        atexit.register(stream.drain)
        _streams.append(stream)
        setattr(sys, name, stream)


def drain_streams() -> None:
    """Wait a moment for the last lines; for a process that ends without the interpreter's own exit."""
    for stream in _streams:
        stream.drain()


def dropped_lines() -> int:
    """Lines of this process that could not be written, for the metrics."""
    return sum(stream.dropped for stream in _streams)
