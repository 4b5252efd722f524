"""Many concurrent calls, one set operation.

Whoever calls `submit` waits for their own result; behind it, what arrived meanwhile is sent as one set. This module
knows nothing of tasks or SQL. What it promises (tests/rules/test_coalescer.py has a test for each):

- A result is given when the operation has returned, not before; a call sees what was written before it was submitted.
- A set that fails is run again call by call, so that a poisoned call harms itself alone.
- No two calls with one `key` are under way at once; they run in the order of their arrival.
- A call whose caller is gone (cancelled, deadline passed) is dropped before it is sent; a set whose callers are all
  gone is cancelled.
- What waits is bounded; one call more is refused at once.
- Owners take turns: one owner's flood does not starve another's single call.
- A set that takes long, because of a row that somebody else has locked, holds up nobody but its own callers.

When to send is the whole art. A set of one costs a round trip, so does one of sixty-four; waiting pays only while
calls are on their way. After a set has been answered, its callers come back within moments: so the next set is sent as
soon as as many are waiting as there were the last time, or as soon as a look around the event loop finds nobody new.
While next to nothing is under way, nothing is gathered at all.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import DatabaseUnavailable, Overloaded

Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Gathering:
    """How calls are gathered."""

    max_set: int = 256
    """The most calls in one set."""
    max_waiting: int = 4096
    """The most calls that wait; one more is refused."""
    overlap: int = 2
    """While fewer calls than this are under way, the next are sent at once, beside them."""
    look_around: float = 0.0003
    """How long one look around for new calls takes (s)."""
    linger: float = 0.004
    """The longest that a set is held back (s)."""
    patience: float = 0.05
    """How long a set may be under way before others go past it (s)."""


class _Call(Generic[Q, R]):
    __slots__ = ("companions", "key", "request", "result", "sent")

    def __init__(self, request: Q, key: Hashable, result: asyncio.Future[R]) -> None:
        self.request = request
        self.key = key
        self.result = result
        self.sent: asyncio.Task[None] | None = None
        self.companions: Sequence[_Call[Q, R]] = ()


class Coalescer(Generic[Q, R]):
    """Turns single calls into calls of `operation`, which takes many requests and answers an outcome each, in order.

    An outcome that is an exception is raised to its caller. `owner` names who takes turns with others; `key`, where it
    is given, names what two calls may not do at once.
    """

    def __init__(
        self,
        operation: Callable[[Sequence[Q]], Awaitable[Sequence[R | Exception]]],
        *,
        owner: Callable[[Q], Hashable],
        key: Callable[[Q], Hashable] | None = None,
        gathering: Gathering | None = None,
    ) -> None:
        self._operation = operation
        self._owner = owner
        self._key = key
        self._how = gathering or Gathering()
        self._queues: OrderedDict[Hashable, deque[_Call[Q, R]]] = OrderedDict()
        self._waiting = 0
        self._under_way = 0
        self._sets: set[asyncio.Task[None]] = set()
        self._busy_keys: set[Hashable] = set()
        self._parked: dict[Hashable, deque[_Call[Q, R]]] = {}
        self._looking = False
        self._looked_at = 0
        self._gathering_since = 0.0
        self._last_size = 1

    async def submit(self, request: Q) -> R:
        """The result of this request. Raises its outcome if that is an exception, Overloaded if too many wait."""
        if self._waiting >= self._how.max_waiting:
            raise Overloaded
        loop = asyncio.get_running_loop()
        call = _Call[Q, R](request, self._key(request) if self._key else None, loop.create_future())
        owner = self._owner(request)
        queue = self._queues.get(owner)
        if queue is None:
            queue = self._queues[owner] = deque()
        queue.append(call)
        self._waiting += 1
        self._wake()
        try:
            return await call.result
        except asyncio.CancelledError:
            if call.sent and all(each.result.done() for each in call.companions):
                call.sent.cancel()  # nobody waits for any of them: what has not begun need not
            raise

    async def drain(self) -> None:
        """Return when nothing waits and nothing is under way."""
        while self._sets or self._waiting:
            await (asyncio.wait(self._sets) if self._sets else asyncio.sleep(self._how.look_around))

    def _wake(self) -> None:
        """Begin to gather, unless that is going on already or the end of a set will do it."""
        if self._looking or not self._waiting or self._under_way >= self._how.overlap:
            return
        self._looking = True
        self._looked_at = 0
        loop = asyncio.get_running_loop()
        self._gathering_since = loop.time()
        loop.call_soon(self._look)

    def _look(self) -> None:
        """Send what waits, or look again a moment later if more calls are on their way."""
        loop = asyncio.get_running_loop()
        nobody_new = self._waiting == self._looked_at
        all_back = self._waiting + self._under_way >= self._last_size
        held_long = loop.time() - self._gathering_since >= self._how.linger
        if nobody_new or all_back or held_long:
            self._looking = False
            self._send()
        else:
            self._looked_at = self._waiting
            loop.call_later(self._how.look_around, self._look)

    def _send(self) -> None:
        calls = self._take()
        if not calls:
            return
        self._last_size = len(calls) + self._under_way
        self._under_way += len(calls)
        task = asyncio.get_running_loop().create_task(self._run(calls))
        for call in calls:
            call.sent, call.companions = task, calls
        self._sets.add(task)
        task.add_done_callback(self._sets.discard)

    def _take(self) -> list[_Call[Q, R]]:
        """The next set: from every owner in turn their oldest call, around and around, until it is full."""
        calls: list[_Call[Q, R]] = []
        while self._queues and len(calls) < self._how.max_set:
            owner, queue = self._queues.popitem(last=False)
            call = queue.popleft()
            if queue:
                self._queues[owner] = queue
            if call.result.done():  # the caller is gone
                self._waiting -= 1
                if call.key not in self._busy_keys:
                    self._release(call.key)
            elif call.key is not None and call.key in self._busy_keys:
                self._parked.setdefault(call.key, deque()).append(call)
            else:
                calls.append(call)
                self._waiting -= 1
                if call.key is not None:
                    self._busy_keys.add(call.key)
        return calls

    def _release(self, key: Hashable) -> None:
        """Let the next call with this key come, before all that its owner has asked for since."""
        self._busy_keys.discard(key)
        if parked := self._parked.get(key):
            call = parked.popleft()
            if not parked:
                del self._parked[key]
            self._queues.setdefault(self._owner(call.request), deque()).appendleft(call)

    async def _run(self, calls: list[_Call[Q, R]]) -> None:
        with self._counted(len(calls)):
            try:
                await self._answer(calls)
            finally:
                for call in calls:
                    if call.key is not None:
                        self._release(call.key)

    @contextmanager
    def _counted(self, size: int) -> Iterator[None]:
        """Count these calls as under way until the block is left, or until their set has taken too long."""
        counted = True

        def uncount() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._under_way -= size
            self._wake()

        slow = asyncio.get_running_loop().call_later(self._how.patience, uncount)
        try:
            yield
        finally:
            slow.cancel()
            uncount()

    async def _answer(self, calls: list[_Call[Q, R]]) -> None:
        try:
            outcomes: Sequence[R | Exception] = await self._operation([call.request for call in calls])
        except Exception as error:  # noqa: BLE001 - it is raised to whoever asked
            # Where there is no database, to ask it for each call would only take longer.
            if len(calls) > 1 and not isinstance(error, DatabaseUnavailable):
                for call in calls:
                    await self._answer([call])
                return
            outcomes = [error] * len(calls)
        for call, outcome in zip(calls, outcomes, strict=True):
            if call.result.done():
                continue
            if isinstance(outcome, Exception):
                call.result.set_exception(outcome)
            else:
                call.result.set_result(outcome)
