"""Admission control: how many calls run, and the queue of those that arrive while as many run as may."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable

from service.errors import Overloaded

MAX_WAIT = 1.0
"""Longest time that a call waits for others to end (s); then it is refused."""
MAX_WAITING = 8192
"""Most waiting calls; one more is refused at once."""
MAX_WAITING_BYTES = 32 * 2**20
"""Most bytes in the messages of waiting calls; one more is refused at once."""

# Time between two looks for calls that have waited for too long (s).
_SWEEP_INTERVAL = 0.05


class Admission:
    """Lets at most `max_running` calls run. Others wait for one of those to end, and users take turns.

    Under a lasting overload most calls are refused in the end. To refuse them at once would cost more than to let them
    wait: their clients would send the next ones at once, and the server would do little else than refuse. A call that
    waits uses a stream of its client instead, and may still be served.
    """

    def __init__(self, max_running: int) -> None:
        self._max_running = max_running
        self._queues: OrderedDict[Hashable, deque[asyncio.Future[bool]]] = OrderedDict()
        self._expiries: deque[tuple[float, asyncio.Future[bool]]] = deque()  # times, and the calls in their order
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._waiting_bytes = 0
        self.running = 0
        self.waiting = 0

    def enter_at_once(self) -> bool:
        """Start a call if it need not wait."""
        if self.running >= self._max_running or self.waiting:
            return False
        self.running += 1
        return True

    async def enter(self, owner: Hashable, size: int) -> None:
        """Start a call of this owner, as soon as it may run; its message has this size (bytes).

        Raises Overloaded after MAX_WAIT, or at once if too many calls wait.
        """
        if self.enter_at_once():
            return
        if self.waiting >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise Overloaded
        self.waiting += 1
        self._waiting_bytes += size
        admitted = self._queue(owner)
        try:
            if not await admitted:
                raise Overloaded
        except asyncio.CancelledError:
            if not admitted.cancelled() and admitted.result():
                self.leave()
            raise
        finally:
            self.waiting -= 1
            self._waiting_bytes -= size

    def leave(self) -> None:
        """End a call that `enter` has started, and start those that may run now: the oldest of each owner in turn."""
        self.running -= 1
        while self.waiting and self.running < self._max_running and (admitted := self._next()):
            self.running += 1
            admitted.set_result(True)

    def _queue(self, owner: Hashable) -> asyncio.Future[bool]:
        loop = asyncio.get_running_loop()
        admitted: asyncio.Future[bool] = loop.create_future()
        queue = self._queues.get(owner)
        if queue is None:
            queue = self._queues[owner] = deque()
        queue.append(admitted)
        self._expiries.append((loop.time() + MAX_WAIT, admitted))
        if self._sweep_timer is None:
            self._sweep_timer = loop.call_later(_SWEEP_INTERVAL, self._sweep)
        return admitted

    def _next(self) -> asyncio.Future[bool] | None:
        while self._queues:
            owner, queue = self._queues.popitem(last=False)
            while queue:
                admitted = queue.popleft()
                if not admitted.done():  # its call was neither refused nor cancelled
                    if queue:
                        self._queues[owner] = queue
                    return admitted
        return None

    def _sweep(self) -> None:
        """Refuse the calls that have waited for too long."""
        self._sweep_timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._expiries and (self._expiries[0][0] <= now or self._expiries[0][1].done()):
            _, admitted = self._expiries.popleft()
            if not admitted.done():
                admitted.set_result(False)
        if self._expiries:
            self._sweep_timer = loop.call_later(_SWEEP_INTERVAL, self._sweep)
        else:
            self._queues.clear()
