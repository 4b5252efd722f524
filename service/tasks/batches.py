"""Parts of batching: its settings, the measure of concurrency, and calls without batching."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

from service.call_record import BatchRecord, current_batch, current_call

Q = TypeVar("Q")
R = TypeVar("R")
Operation = Callable[[Sequence[Q]], Awaitable[Sequence[R | Exception]]]
BatchObserver = Callable[[str, Sequence[float]], None]
"""Called with the name of the operation, and how long each call of a batch has waited for it (s)."""

_FEW = 4  # a peak below this is not waited for and not counted anew


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """Parameters of batching; times in seconds."""

    max_batch: int = 256
    """Most calls in one batch."""
    enough: int = 64
    """A batch of this size is sent without waiting for more calls."""
    max_waiting: int = 4096
    """Most waiting calls; one more is refused."""
    overlap: int = 2
    """Most batches in flight while calls keep arriving."""
    max_batches: int = 8
    """Most batches in flight when no call has arrived; keep it below the size of the connection pool."""
    look_around: float = 0.001
    """Time between two looks for new calls. After two looks without a new call, the waiting calls are sent."""
    linger: float = 0.01
    """Longest time that calls wait for others although a batch could be sent."""
    window: float = 0.1
    """Length of a window of PeakConcurrency."""
    patience: float = 0.05
    """A batch that has run for this long no longer counts as in flight, so that others may be sent."""


class PeakConcurrency:
    """Peak concurrency over the current and the previous window."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._ends = 0.0
        self._peaks = (1, 1)  # of the previous window, and of the current one
        self.is_counted = True

    @property
    def size(self) -> int:
        return max(self._peaks)

    def see(self, size: int, now: float) -> None:
        """Record a number of concurrent calls. When a window ends, `is_counted` is False until the next full count."""
        before, peak = self._peaks
        if now > self._ends:
            before, peak = (peak, size) if now < self._ends + self._window else (1, size)
            self._ends = now + self._window
            self.is_counted = max(before, peak) < _FEW
        self._peaks = before, max(peak, size)


def begin_batch(operation: str) -> None:
    """Let what the current call asks of the store be a batch of its own."""
    now = perf_counter()
    batch = BatchRecord(now, operation)
    current_batch.set(batch)
    if record := current_call.get():
        record.leave_queue(now, batch)


class Direct(Generic[Q, R]):
    """Replaces a Coalescer if batching is off: each call is a batch of its own, sent at once."""

    waiting = 0

    def __init__(self, operation: Operation[Q, R], name: str = "", on_batch: BatchObserver | None = None) -> None:
        self._operation = operation
        self._name = name
        self._on_batch = on_batch
        self._batches: set[asyncio.Task[Sequence[R | Exception]]] = set()

    async def submit(self, request: Q) -> R:
        """The result of this request. Raises its outcome if that is an exception."""
        begin_batch(self._name)
        if self._on_batch:
            self._on_batch(self._name, (0.0,))
        task = asyncio.ensure_future(self._operation([request]))
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)
        try:
            [outcome] = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()  # the caller does not wait for it
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def drain(self) -> None:
        """Return when no batch is in flight."""
        while self._batches:
            await asyncio.wait(self._batches)
