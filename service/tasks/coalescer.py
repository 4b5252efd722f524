"""Batching: turns many concurrent calls into few batch operations.

A caller of `submit` gets its own result; calls that arrive while a batch runs form the next batch. This module knows
nothing of tasks or SQL. It promises (each promise has a test in tests/tasks/test_coalescer.py):

- A call returns after its operation has returned, not before, and sees everything written before it was submitted.
- A batch that fails is run again call by call, so that one bad call fails alone.
- Two calls with the same `key` never run at the same time; they run in the order of arrival.
- A call that was cancelled (by its caller, or by its deadline) is dropped before it is sent. A batch whose calls are
  all cancelled is cancelled.
- The number of waiting calls is bounded; one more is refused at once.
- Owners take turns: one owner's flood does not starve another owner's single call.
- A slow batch, for example one that waits for a locked row, delays only its own calls. An owner whose calls ended
  without the lock that they waited for is not batched with other owners for a while.

The art is in when to send a batch. A batch of one costs hardly less than a batch of 64, so waiting pays, but only while
more calls are on their way. Callers that got their responses together call again together, so the recent peak of
concurrency tells how many calls to expect. A batch is sent when nearly that many calls wait, or enough for an efficient
batch; the next batch fills up while the database works on this one. One or two concurrent callers never wait. If no
call arrives for a moment, the waiting calls are sent as they are. A peak that does not recur is soon forgotten.

A distributed database takes batches of one owner. Calls of others then gain nothing from waiting, and an owner's own
calls gather while the owner's last batch runs: a batch is sent as soon as its owner has none in flight.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Hashable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Generic, TypeVar

from service.call_record import BatchRecord, CallRecord, current_batch, current_call
from service.errors import DatabaseUnavailable, Overloaded
from service.tasks.batches import BatchObserver, BatchSettings, Operation, PeakConcurrency
from service.tasks.store import Locked

Q = TypeVar("Q")
R = TypeVar("R")
_LOOKS = 2
_PAIR = 2  # this many concurrent calls gain nothing from batching
_SUSPECT = 10.0  # s: for so long after it was locked, an owner's call is not batched with those of other owners
_APART_AT_ONCE = 4  # most such calls that run at the same time


class _Call(Generic[Q, R]):
    __slots__ = ("companions", "key", "record", "request", "result", "since")

    def __init__(self, request: Q, key: Hashable, result: asyncio.Future[R], record: CallRecord | None) -> None:
        self.request = request
        self.key = key
        self.result = result
        self.record = record
        self.companions: _Batch[Q, R] | None = None
        self.enter_queue(perf_counter())

    def enter_queue(self, now: float) -> None:
        self.since = now
        if self.record:
            self.record.enter_queue(now)


class _Batch(Generic[Q, R]):
    """Calls that were sent together, and the asyncio task that serves them."""

    __slots__ = ("calls", "task")

    def __init__(self, calls: Sequence[_Call[Q, R]], task: asyncio.Task[None] | None) -> None:
        self.calls = calls
        self.task = task

    def is_wanted(self) -> bool:
        """True if any call still waits for its result."""
        return not all(call.result.done() for call in self.calls)


class Coalescer(Generic[Q, R]):
    """Batches single calls into calls of `operation`, which takes many requests and returns their outcomes in order.

    An outcome that is an exception is raised to its caller. Owners, named by `owner`, take turns; with `by_owner`, a
    batch has calls of one owner. Calls with the same
    `key` run one after the other. A call whose outcome is Locked runs again by itself with `patient`, which waits for
    locks. The semaphore `turns`, which several coalescers may share, bounds how many of these run at the same time.
    `on_batch` gets the `name` of the operation.
    """

    def __init__(
        self,
        operation: Operation[Q, R],
        *,
        owner: Callable[[Q], Hashable],
        by_owner: bool = False,
        key: Callable[[Q], Hashable] | None = None,
        patient: Operation[Q, R] | None = None,
        turns: asyncio.Semaphore | None = None,
        batching: BatchSettings | None = None,
        name: str = "",
        on_batch: BatchObserver | None = None,
    ) -> None:
        self._operation = operation
        self._name = name
        self._on_batch = on_batch
        self._owner = owner
        self._by_owner = by_owner
        self._busy_owners: set[Hashable] = set()  # by owner only: those with a batch in flight that is not slow
        self._key = key
        self._patient = patient or operation
        self._turns = turns or asyncio.Semaphore()
        self._how = batching or BatchSettings()
        self._queues: OrderedDict[Hashable, deque[_Call[Q, R]]] = OrderedDict()
        self._parked: dict[Hashable, deque[_Call[Q, R]]] = {}
        self._busy_keys: set[Hashable] = set()
        self._suspects: dict[Hashable, float] = {}  # owners without keys that were locked, and until when
        self._apart = asyncio.Semaphore(_APART_AT_ONCE)
        self._ready = 0  # calls in the queues
        self.waiting = 0
        """Number of waiting calls: those in the queues, and the parked ones."""
        self._under_way = 0  # calls in flight, and below their batches, without slow batches
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
        call: _Call[Q, R] = _Call(request, key, result, current_call.get())
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
                companions.task.cancel()  # no call of the batch is wanted: what has not begun need not begin
            raise

    async def drain(self) -> None:
        """Return when no call waits and no batch is in flight."""
        while self._batches or self.waiting:
            await (asyncio.wait(self._batches) if self._batches else asyncio.sleep(self._how.look_around))

    def _consider(self) -> None:
        """Begin a batch if enough calls wait. Otherwise, and in any case once in a window, look for new calls first."""
        if self._by_owner:
            self._begin_by_owner()
            return
        if self._begins or not self._ready:
            return
        are_few = self._peak.size <= _PAIR
        are_enough = self._peak.is_counted and self._ready >= min(self._peak.size * 7 // 8, self._how.enough)
        if (are_few or are_enough) and self._batches_under_way < self._how.overlap:
            self._begin()
        elif not self._look_timer:
            self._look_later(0, asyncio.get_running_loop().time() + self._how.linger)

    def _begin_by_owner(self) -> None:
        """Begin a batch for each owner that has calls in a queue and no batch in flight."""
        while self._batches_under_way < self._how.max_batches:
            owner = next((each for each in self._queues if each not in self._busy_owners), None)
            if owner is None:
                return
            self._busy_owners.add(owner)
            self._batches_under_way += 1
            self._start(self._run(owner))

    def _look_later(self, in_vain: int, latest: float) -> None:
        self._look_timer = asyncio.get_running_loop().call_later(
            self._how.look_around, self._look, self._arrived, in_vain, latest
        )

    def _look(self, arrived: int, in_vain: int, latest: float) -> None:
        """Send the waiting calls if none arrived before the last two looks, or if they have waited for long enough.

        Two looks, because before the first the event loop may have been too busy to accept new calls.
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
        """Start the task of a batch. It takes its calls when it runs, including those that arrive until then."""
        loop = asyncio.get_running_loop()
        if self._look_timer:
            self._look_timer.cancel()
            self._look_timer = None
        self._begins = True
        self._peak.see(self._ready + self._under_way, loop.time())
        self._batches_under_way += 1
        self._start(self._run())

    def _take(self, only: Hashable | None = None) -> list[_Call[Q, R]]:
        """The calls of the next batch: the oldest call of each owner in turn, round after round, until it is full.

        Of one owner, if that is given.
        """
        calls: list[_Call[Q, R]] = []
        while len(calls) < self._how.max_batch:
            owner = next(iter(self._queues), None) if only is None else only
            queue = self._queues.pop(owner, None)
            if not queue:
                break
            call = queue.popleft()
            if queue:
                self._queues[owner] = queue
            self._ready -= 1
            if call.result.done():  # it was cancelled
                self.waiting -= 1
                if call.key not in self._busy_keys:
                    self._release(call.key)
            elif (name := owner if call.key is None else call.key) in self._busy_keys:
                self._parked.setdefault(name, deque()).append(call)
            elif call.key is None and only is None and self._suspects.get(owner, 0.0) > self._now():
                self.waiting -= 1
                self._busy_keys.add(owner)
                self._start(self._run_apart(call))
            else:
                calls.append(call)
                self.waiting -= 1
                if call.key is not None:
                    self._busy_keys.add(call.key)
        return calls

    def _release(self, key: Hashable) -> None:
        """Put the next call with this key at the head of its owner's queue: it is older than all calls there.

        If the key is an owner, all calls without a key that waited for it go there.
        """
        self._busy_keys.discard(key)
        if parked := self._parked.get(key):
            is_owner = parked[0].key is None
            coming = parked if is_owner else [parked.popleft()]
            if is_owner or not parked:
                del self._parked[key]
            self._queues.setdefault(self._owner(coming[0].request), deque()).extendleft(reversed(coming))
            self._ready += len(coming)

    async def _run(self, only: Hashable | None = None) -> None:
        self._begins = False
        calls = self._take(only)
        self._record(calls)
        locked: Sequence[_Call[Q, R]] = ()
        with self._counted(len(calls), only):
            try:
                locked = await self._serve(calls, self._operation) if calls else ()
            finally:
                for call in calls:
                    if call not in locked:
                        self._release(call.key)
        for call in locked:
            call.enter_queue(perf_counter())
            owner = self._owner(call.request)
            if call.key is None and owner in self._busy_keys:
                self._parked.setdefault(owner, deque()).append(call)
                self.waiting += 1
                continue
            if call.key is None:
                self._busy_keys.add(owner)
            self._start(self._run_alone(call))

    async def _run_apart(self, call: _Call[Q, R]) -> None:
        """Run a call of an owner that was locked a moment ago, so that no other owner's call waits for that lock."""
        locked: Sequence[_Call[Q, R]] = ()
        try:
            async with self._apart:
                if not call.result.done():
                    self._record([call])
                    locked = await self._serve([call], self._operation)
        finally:
            if not locked:
                self._end_alone(call)
        if locked:
            call.enter_queue(perf_counter())
            await self._run_alone(call)

    async def _run_alone(self, call: _Call[Q, R]) -> None:
        """Run a call that must wait for a lock. Its key stays busy meanwhile; its owner, if it has no key."""
        try:
            async with self._turns:
                if not call.result.done():
                    self._record([call])
                    await self._serve([call], self._patient)
        finally:
            self._end_alone(call)

    def _end_alone(self, call: _Call[Q, R]) -> None:
        """Release the key or the owner of a call, and suspect an owner that may still be locked."""
        owner = self._owner(call.request)
        if call.key is None and call.result.cancelled():
            now = self._now()
            self._suspects = {each: until for each, until in self._suspects.items() if until > now}
            self._suspects[owner] = now + _SUSPECT
        elif call.key is None:
            self._suspects.pop(owner, None)
        self._release(owner if call.key is None else call.key)
        self._consider()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _record(self, calls: Sequence[_Call[Q, R]]) -> None:
        """Record that these calls are a batch, which the current task runs."""
        now = perf_counter()
        batch = BatchRecord(now, self._name, size=len(calls))
        current_batch.set(batch)
        current_call.set(None)
        for call in calls:
            if call.record:
                call.record.leave_queue(now, batch)
        if calls and self._on_batch:
            self._on_batch(self._name, [now - call.since for call in calls])

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)

    async def _serve(self, calls: Sequence[_Call[Q, R]], operation: Operation[Q, R]) -> Sequence[_Call[Q, R]]:
        """Run a batch and set the results of its calls. Returns the calls whose outcome is Locked."""
        together = _Batch(calls, asyncio.current_task())
        for call in calls:
            call.companions = together
        try:
            return await self._answer(calls, operation)
        finally:
            for call in calls:
                call.companions = None  # breaks a reference cycle, so that calls are freed at once

    @contextmanager
    def _counted(self, size: int, only: Hashable | None) -> Iterator[None]:
        """Count a batch as in flight until the block ends, or until it has run for longer than `patience`."""
        counted = True
        self._under_way += size
        self._consider()

        def uncount() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._under_way -= size
                self._batches_under_way -= 1
                self._busy_owners.discard(only)
            self._consider()

        slow = asyncio.get_running_loop().call_later(self._how.patience, uncount)
        try:
            yield
        finally:
            slow.cancel()
            uncount()

    async def _answer(self, calls: Sequence[_Call[Q, R]], operation: Operation[Q, R]) -> list[_Call[Q, R]]:
        """Run the operation and give each call its outcome. Returns the calls whose outcome is Locked."""
        try:
            outcomes: Sequence[R | Exception] = await operation([call.request for call in calls])
        except Exception as error:  # noqa: BLE001 - it is raised to the callers
            # If the database is away, to run the calls one by one would only take longer.
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
