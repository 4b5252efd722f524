"""How many calls may be under way, and for how long."""

from __future__ import annotations

import asyncio
from typing import Any

from service.errors import DeadlineExceeded, Overloaded
from service.rpc.handlers import Behaviour, Context


class CallLimits:
    """Bounds how many task calls are under way at once, and how long one may take.

    `max_in_flight` calls run or wait; one more is refused at once, since a queue without an end only moves the failure
    to where nobody sees it. `max_seconds` holds for calls that come without a deadline or with a later one. Health and
    reflection are not counted: a probe must be answered under load as well, and a watch lasts.
    """

    def __init__(self, *, max_in_flight: int, max_seconds: float) -> None:
        self._max_in_flight = max_in_flight
        self._max_seconds = max_seconds
        self._overdue: set[asyncio.Task[Any]] = set()
        self.in_flight = 0

    def kept(self, behaviour: Behaviour) -> Behaviour:
        """The same within these limits."""

        async def limited(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
            if self.in_flight >= self._max_in_flight:
                raise Overloaded
            seconds = self._seconds(context)
            task = asyncio.current_task()
            assert task is not None
            # What asyncio.timeout does, at a third of its price.
            timer = asyncio.get_running_loop().call_later(seconds, self._cancel, task)
            self.in_flight += 1
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                if task in self._overdue and task.uncancel() == 0:
                    raise DeadlineExceeded from None
                raise
            finally:
                timer.cancel()
                self.in_flight -= 1
                self._overdue.discard(task)

        return limited

    def _seconds(self, context: Context) -> float:
        """How long this call may take. Raises DeadlineExceeded if its deadline has passed already."""
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded
        return min(remaining or self._max_seconds, self._max_seconds)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        self._overdue.add(task)
        task.cancel()
