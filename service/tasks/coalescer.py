"""Many concurrent calls, one set operation.

Whoever calls `submit` waits for their own result; behind it, what arrived meanwhile is sent as one set. This module
knows nothing of tasks or SQL. What it promises (tests/tasks/test_coalescer.py has a test for each):

- A result is given when the operation has returned, not before; a call sees what was written before it was submitted.
- A set that fails is run again call by call, so that a poisoned call harms itself alone.
- No two calls with one `key` are under way at once; they run in the order of their arrival.
- A call whose caller is gone (cancelled, deadline passed) is dropped before it is sent; a set whose callers are all
  gone is cancelled.
- What waits is bounded; one call more is refused at once.
- Owners take turns: one owner's flood does not starve another's single call.
- A call whose outcome is Locked runs again by itself; the others of its batch are answered at once.
- A set that takes long holds up nobody but its own callers.

When to send is the whole art. A set of one costs hardly less than a set of sixty-four, so waiting pays, but only while
calls are on their way. Callers that were answered together come back together: so the crowd, the most calls that were
lately about at once, tells how many to expect. A set is sent when nearly all of the crowd wait, or enough of it: then
the next one gathers while the database is busy with this one. One caller, or two, never wait. If nobody new comes for a
moment, what waits is sent as it is; a crowd that does not come back is soon forgotten.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import DatabaseUnavailable, Overloaded
from service.tasks.store import Locked

Q = TypeVar("Q")
R = TypeVar("R")
Operation = Callable[[Sequence[Q]], Awaitable[Sequence[R | Exception]]]

_FEW = 4  # fewer than these are never waited for, and need not be counted
_LOOKS = 2
_PAIR = 2  # no more than these have nothing to gain from each other


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How calls are gathered; times in seconds."""

    max_batch: int = 256
    """The most calls in one set."""
    enough: int = 64
    """How many calls make a set that is not worth waiting for to grow."""
    max_waiting: int = 4096
    """The most calls that wait; one more is refused."""
    overlap: int = 2
    """How many sets are under way at once while calls keep coming."""
    max_batches: int = 8
    """How many when nobody new comes: less than there are connections."""
    look_around: float = 0.001
    """How long a look for newcomers takes; after the second one in vain what waits is sent."""
    linger: float = 0.01
    """The longest that a set is held back while others could be sent."""
    window: float = 0.1
    """How often the crowd is counted anew. What was seen in this window and in the one before it is expected."""
    patience: float = 0.05
    """How long a set may be under way before others go past it."""


class PeakConcurrency:
    """The most calls that were about at once, lately."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._ends = 0.0
        self._peaks = (1, 1)  # of the window before, and of this one
        self.is_counted = True

    @property
    def size(self) -> int:
        return max(self._peaks)

    def see(self, size: int, now: float) -> None:
        """Take note of so many calls at once. When a window has ended, what is about has to be counted."""
        before, peak = self._peaks
        if now > self._ends:
            before, peak = (peak, size) if now < self._ends + self._window else (1, size)
            self._ends = now + self._window
            self.is_counted = max(before, peak) < _FEW
        self._peaks = before, max(peak, size)


class _Call(Generic[Q, R]):
    __slots__ = ("companions", "key", "request", "result")

    def __init__(self, request: Q, key: Hashable, result: asyncio.Future[R]) -> None:
        self.request = request
        self.key = key
        self.result = result
        self.companions: _Batch[Q, R] | None = None


class _Batch(Generic[Q, R]):
    """Calls that were sent together, and the task that answers them."""

    __slots__ = ("calls", "task")

    def __init__(self, calls: Sequence[_Call[Q, R]], task: asyncio.Task[None] | None) -> None:
        self.calls = calls
        self.task = task

    def is_wanted(self) -> bool:
        """Whether anybody still waits."""
        return not all(call.result.done() for call in self.calls)


class Direct(Generic[Q, R]):
    """Stands in for a Coalescer where there is to be none: every call is a batch of its own, sent at once."""

    waiting = 0

    def __init__(self, operation: Operation[Q, R]) -> None:
        self._operation = operation
        self._batches: set[asyncio.Task[Sequence[R | Exception]]] = set()

    async def submit(self, request: Q) -> R:
        """The result of this request. Raises its outcome if that is an exception."""
        task = asyncio.ensure_future(self._operation([request]))
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)
        try:
            [outcome] = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()  # which may take its time; the caller does not
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def drain(self) -> None:
        """Return when nothing is under way."""
        while self._batches:
            await asyncio.wait(self._batches)


class Coalescer(Generic[Q, R]):
    """Turns single calls into calls of `operation`, which takes many requests and answers an outcome each, in order.

    An outcome that is an exception is raised to its caller. `owner` names who takes turns with others; `key`, where it
    is given, names what two calls may not do at once. A call whose outcome is Locked is run again by itself, with
    `patient`, which waits for locks; as many at once, of all coalescers that share them, as there are `turns`.
    """

    def __init__(
        self,
        operation: Operation[Q, R],
        *,
        owner: Callable[[Q], Hashable],
        key: Callable[[Q], Hashable] | None = None,
        patient: Operation[Q, R] | None = None,
        turns: asyncio.Semaphore | None = None,
        batching: BatchSettings | None = None,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self._operation = operation
        self._on_set = on_batch
        self._owner = owner
        self._key = key
        self._patient = patient or operation
        self._turns = turns or asyncio.Semaphore()
        self._how = batching or BatchSettings()
        self._queues: OrderedDict[Hashable, deque[_Call[Q, R]]] = OrderedDict()
        self._parked: dict[Hashable, deque[_Call[Q, R]]] = {}
        self._busy_keys: set[Hashable] = set()
        self._ready = 0  # calls in the queues
        self.waiting = 0
        """How many calls wait: these, and the parked ones."""
        self._under_way = 0  # calls, and their sets, but for those that take too long
        self._batches_under_way = 0
        self._batches: set[asyncio.Task[None]] = set()
        self._begins = False
        self._peak = PeakConcurrency(self._how.window)
        self._look_timer: asyncio.TimerHandle | None = None
        self._arrived = 0

    async def submit(self, request: Q) -> R:
        """The result of this request. Raises its outcome if that is an exception, Overloaded if too many wait."""
        if self.waiting >= self._how.max_waiting:
            raise Overloaded
        key = self._key(request) if self._key else None
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        call: _Call[Q, R] = _Call(request, key, result)
        owner = self._owner(request)
        queue = self._queues.get(owner)
        if queue is None:
            queue = self._queues[owner] = deque()
        queue.append(call)
        self._ready += 1
        self.waiting += 1
        self._arrived += 1
        self._consider()
        try:
            return await result
        except asyncio.CancelledError:
            if (companions := call.companions) and companions.task and not companions.is_wanted():
                companions.task.cancel()  # nobody waits for any of them: what has not begun need not
            raise

    async def drain(self) -> None:
        """Return when nothing waits and nothing is under way."""
        while self._batches or self.waiting:
            await (asyncio.wait(self._batches) if self._batches else asyncio.sleep(self._how.look_around))

    def _consider(self) -> None:
        """Begin a set if enough calls wait; else, and once in a window in any case, look who comes."""
        if self._begins or not self._ready:
            return
        are_few = self._peak.size <= _PAIR
        are_enough = self._peak.is_counted and self._ready >= min(self._peak.size * 7 // 8, self._how.enough)
        if (are_few or are_enough) and self._batches_under_way < self._how.overlap:
            self._begin()
        elif not self._look_timer:
            self._look_later(0, asyncio.get_running_loop().time() + self._how.linger)

    def _look_later(self, in_vain: int, latest: float) -> None:
        self._look_timer = asyncio.get_running_loop().call_later(
            self._how.look_around, self._look, self._arrived, in_vain, latest
        )

    def _look(self, arrived: int, in_vain: int, latest: float) -> None:
        """Send what waits if nobody came since the last look nor before it, or if it was held back for long enough.

        Two looks, because the event loop may have been too busy before the first to see who came.
        """
        self._look_timer = None
        if not self._ready:
            return
        in_vain = in_vain + 1 if arrived == self._arrived else 0
        held_enough = in_vain == _LOOKS or asyncio.get_running_loop().time() > latest
        if held_enough and self._batches_under_way < self._how.max_batches:
            self._peak.is_counted = True
            self._begin()
        else:
            self._look_later(in_vain, latest)

    def _begin(self) -> None:
        """Start the task of a set; it takes its calls when it runs, those that come until then among them."""
        loop = asyncio.get_running_loop()
        if self._look_timer:
            self._look_timer.cancel()
            self._look_timer = None
        self._begins = True
        self._peak.see(self._ready + self._under_way, loop.time())
        self._batches_under_way += 1
        self._start(self._run())

    def _take(self) -> list[_Call[Q, R]]:
        """The next set: from every owner in turn their oldest call, around and around, until it is full."""
        calls: list[_Call[Q, R]] = []
        while self._queues and len(calls) < self._how.max_batch:
            owner, queue = self._queues.popitem(last=False)
            call = queue.popleft()
            if queue:
                self._queues[owner] = queue
            self._ready -= 1
            if call.result.done():  # the caller is gone
                self.waiting -= 1
                if call.key not in self._busy_keys:
                    self._release(call.key)
            elif call.key is not None and call.key in self._busy_keys:
                self._parked.setdefault(call.key, deque()).append(call)
            else:
                calls.append(call)
                self.waiting -= 1
                if call.key is not None:
                    self._busy_keys.add(call.key)
        return calls

    def _release(self, key: Hashable) -> None:
        """Let the next call with this key come, before all that its owner has asked for since."""
        if key is None:
            return
        self._busy_keys.discard(key)
        if parked := self._parked.get(key):
            call = parked.popleft()
            if not parked:
                del self._parked[key]
            self._queues.setdefault(self._owner(call.request), deque()).appendleft(call)
            self._ready += 1

    async def _run(self) -> None:
        self._begins = False
        calls = self._take()
        if calls and self._on_set:
            self._on_set(len(calls))
        locked: Sequence[_Call[Q, R]] = ()
        with self._counted(len(calls)):
            try:
                locked = await self._serve(calls, self._operation) if calls else ()
            finally:
                for call in calls:
                    if call not in locked:
                        self._release(call.key)
        for call in locked:
            self._start(self._run_alone(call))

    async def _run_alone(self, call: _Call[Q, R]) -> None:
        """Run a call that has to wait for a lock. Its key stays busy meanwhile."""
        try:
            async with self._turns:
                if not call.result.done():
                    await self._serve([call], self._patient)
        finally:
            self._release(call.key)
            self._consider()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)

    async def _serve(self, calls: Sequence[_Call[Q, R]], operation: Operation[Q, R]) -> Sequence[_Call[Q, R]]:
        """Answer these calls, but for those whose outcome is Locked, which are returned."""
        together = _Batch(calls, asyncio.current_task())
        for call in calls:
            call.companions = together
        try:
            return await self._answer(calls, operation)
        finally:
            for call in calls:
                call.companions = None  # they know each other: left to the garbage collector, they would be many

    @contextmanager
    def _counted(self, size: int) -> Iterator[None]:
        """Count a set as under way until the block is left, or until it has taken too long."""
        counted = True
        self._under_way += size
        self._consider()

        def uncount() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._under_way -= size
                self._batches_under_way -= 1
            self._consider()

        slow = asyncio.get_running_loop().call_later(self._how.patience, uncount)
        try:
            yield
        finally:
            slow.cancel()
            uncount()

    async def _answer(self, calls: Sequence[_Call[Q, R]], operation: Operation[Q, R]) -> list[_Call[Q, R]]:
        """Give each call its outcome. Those that have yet to get one, because it is Locked, are returned."""
        try:
            outcomes: Sequence[R | Exception] = await operation([call.request for call in calls])
        except Exception as error:  # noqa: BLE001 - it is raised to whoever asked
            # Where there is no database, to ask it for each call would only take longer.
            if len(calls) > 1 and not isinstance(error, DatabaseUnavailable):
                return [locked for call in calls for locked in await self._answer([call], operation)]
            outcomes = [error] * len(calls)
        locked = []
        for call, outcome in zip(calls, outcomes, strict=True):
            if call.result.done():
                continue
            if isinstance(outcome, Locked):
                locked.append(call)
            elif isinstance(outcome, Exception):
                call.result.set_exception(outcome)
            else:
                call.result.set_result(outcome)
        return locked
