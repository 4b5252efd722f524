"""Calls in flight, and the refusal of new ones at shutdown."""

import asyncio
from typing import Any

from service.errors import ShuttingDown


class Drain:
    """Tracks the calls in flight, so that a shutdown can wait for their end, and refuses calls once it has begun.

    A call lasts as long as its task: until its response is handed to the transport, not only until it is made.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._begun = False

    def enter(self) -> None:
        """Track the call of the current task. Raises ShuttingDown once the drain has begun."""
        if self._begun:
            raise ShuttingDown
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def begin(self) -> None:
        """Refuse calls from now on."""
        self._begun = True

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    async def wait(self, seconds: float) -> None:
        """Wait until the calls in flight have ended, for at most `seconds`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
