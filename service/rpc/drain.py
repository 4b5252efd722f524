"""Calls in flight, and the refusal of new ones at shutdown."""

import asyncio
from contextlib import suppress
from typing import Any

from service.errors import ShuttingDown

# Tasks that may have ended before they are looked for, and how many more of those that had not when last looked.
_SWEEP_AFTER = 256
_SWEEP_GROWTH = 4


class Drain:
    """Counts the calls in flight, so that a shutdown can wait for their end, and refuses calls once it has begun.

    A call lasts until its response is handed to the transport, not only until it is made: that is when gRPC's task of
    the call ends. To have each context or task report its end would cost every call some microseconds, and a context
    with a callback is in a reference cycle. So ended tasks are swept out now and then.
    """

    def __init__(self) -> None:
        self._unfinished = 0
        self._sending: set[asyncio.Task[Any]] = set()
        self._sweep_at = _SWEEP_AFTER
        self._begun = False
        self._ended = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """The number of calls in flight."""
        self._sweep()
        return self.at_most

    @property
    def at_most(self) -> int:
        """A number that is not below `in_flight`, and cheap."""
        return self._unfinished + len(self._sending)

    def enter(self) -> None:
        """Raise ShuttingDown once the drain has begun."""
        if self._begun:
            raise ShuttingDown

    def start(self) -> None:
        """Count one more call, until `end`."""
        self._unfinished += 1

    def end(self) -> None:
        self._unfinished -= 1
        if self._begun and not self._unfinished:
            self._ended.set()

    def count_until_sent(self, task: asyncio.Task[Any]) -> None:
        """Count the call of this task until its response is sent."""
        self._sending.add(task)
        if len(self._sending) > self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        self._sending = {task for task in self._sending if not task.done()}
        self._sweep_at = len(self._sending) + len(self._sending) // _SWEEP_GROWTH + _SWEEP_AFTER

    def begin(self) -> None:
        """Refuse calls from now on."""
        self._begun = True

    async def wait(self, seconds: float) -> None:
        """Wait until the calls in flight have ended, for at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if self._unfinished:
                    await self._ended.wait()
                if self._sending:
                    await asyncio.wait(self._sending)
