"""The coalescer's promises, each with a test that fails when it is broken. Sets are let go by hand, never by time."""

import asyncio
from collections.abc import Sequence

import pytest

from service.errors import DatabaseUnavailable, Overloaded, TaskNotFound
from service.tasks.coalescer import BatchSettings, Coalescer, PeakConcurrency
from service.tasks.store import Locked

Request = tuple[str, object]
"""An owner and what they ask."""


class Operation:
    """A set operation that holds every set until it is let go, and remembers what it was asked."""

    def __init__(self, *, holds: bool = True) -> None:
        self.sets: list[list[Request]] = []
        self.poison: set[object] = set()
        self.locked: set[object] = set()
        self.failure: Exception = ValueError("poisoned")
        self._holds = holds
        self._gates: list[asyncio.Event] = []
        self._called = asyncio.Condition()

    async def __call__(self, requests: Sequence[Request]) -> list[str | Exception]:
        self.sets.append(list(requests))
        gate = asyncio.Event()
        self._gates.append(gate)
        async with self._called:
            self._called.notify_all()
        if self._holds:
            await gate.wait()
        if any(asked in self.poison for _, asked in requests):
            raise self.failure
        return [self._outcome(asked) for _, asked in requests]

    def _outcome(self, asked: object) -> str | Exception:
        if asked in self.locked:
            return Locked()
        return TaskNotFound() if asked == "missing" else f"done {asked}"

    async def called(self, times: int) -> None:
        """Return when the operation was called so many times."""
        async with self._called:
            await asyncio.wait_for(self._called.wait_for(lambda: len(self.sets) >= times), 10)

    def hold(self) -> None:
        """Hold every later set."""
        self._holds = True

    def let_go(self) -> None:
        """Let every set that is held return, and every later one."""
        self._holds = False
        for gate in self._gates:
            gate.set()

    def let_one_go(self, number: int) -> None:
        """Let the batch of this number return, counted from 0."""
        self._gates[number].set()


def coalescer(
    operation: Operation,
    *,
    keyed: bool = False,
    patient: Operation | None = None,
    turns: asyncio.Semaphore | None = None,
    **how: float,
) -> Coalescer[Request, str]:
    batching = BatchSettings(**{"overlap": 1, "max_batches": how.get("overlap", 1), **how})  # type: ignore[arg-type]
    key = (lambda request: request) if keyed else None
    return Coalescer(
        operation, owner=lambda request: request[0], key=key, patient=patient, turns=turns, batching=batching
    )


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def start(calls: Coalescer[Request, str], *requests: Request) -> list[asyncio.Task[str]]:
    return [asyncio.ensure_future(calls.submit(request)) for request in requests]


async def together(operation: Operation, *requests: Request) -> list[str | BaseException]:
    """The outcomes of requests that are sent in one set, behind a set of one."""
    calls = coalescer(operation)
    first = start(calls, ("first", "first"))
    await operation.called(1)
    others = start(calls, *requests)
    await settle()
    operation.let_go()
    await asyncio.gather(*first)
    return await asyncio.gather(*others, return_exceptions=True)


async def test_what_arrives_while_a_set_is_under_way_goes_together_in_the_next() -> None:
    operation = Operation()
    calls = coalescer(operation, look_around=0.0)
    first = start(calls, ("a", 1))
    await operation.called(1)
    others = start(calls, ("a", 2), ("b", 3), ("c", 4))
    await settle()
    assert operation.sets == [[("a", 1)]]
    operation.let_go()
    assert await asyncio.gather(*first, *others) == ["done 1", "done 2", "done 3", "done 4"]
    assert operation.sets == [[("a", 1)], [("a", 2), ("b", 3), ("c", 4)]]


async def test_a_result_is_given_after_the_operation_has_returned_and_not_before() -> None:
    operation = Operation()
    [call] = start(coalescer(operation), ("a", 1))
    await operation.called(1)
    await settle()
    assert not call.done()
    operation.let_go()
    assert await call == "done 1"


async def test_a_call_is_not_part_of_a_set_that_was_sent_before_it() -> None:
    operation = Operation()
    calls = coalescer(operation)
    first = start(calls, ("a", 1))
    await operation.called(1)
    second = start(calls, ("a", 1))
    operation.let_go()
    await asyncio.gather(*first, *second)
    assert operation.sets == [[("a", 1)], [("a", 1)]]


async def test_an_outcome_that_is_an_exception_is_raised_to_its_caller_alone() -> None:
    calls = coalescer(Operation(holds=False))
    fine, missing = await asyncio.gather(*start(calls, ("a", 1), ("a", "missing")), return_exceptions=True)
    assert fine == "done 1"
    assert isinstance(missing, TaskNotFound)


async def test_a_poisoned_call_harms_itself_alone() -> None:
    operation = Operation()
    operation.poison = {2}
    outcomes = await together(operation, ("a", 1), ("b", 2), ("c", 3))
    assert [str(outcome) for outcome in outcomes] == ["done 1", "poisoned", "done 3"]
    assert operation.sets[1:] == [[("a", 1), ("b", 2), ("c", 3)], [("a", 1)], [("b", 2)], [("c", 3)]]


async def test_without_a_database_a_set_is_not_run_again_call_by_call() -> None:
    operation = Operation()
    operation.poison, operation.failure = {1}, DatabaseUnavailable()
    outcomes = await together(operation, ("a", 1), ("b", 2))
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 2
    assert len(operation.sets) == 2


async def test_calls_with_one_key_run_one_after_the_other_in_the_order_of_their_arrival() -> None:
    operation = Operation()
    calls = coalescer(operation, keyed=True, overlap=100)
    first = start(calls, ("a", 1))
    await operation.called(1)
    others = start(calls, ("a", 1), ("a", 2), ("a", 1), ("b", 1))
    await operation.called(2)
    await settle()
    assert operation.sets == [[("a", 1)], [("b", 1), ("a", 2)]]
    operation.let_go()
    await asyncio.gather(*first, *others)
    assert operation.sets[2:] == [[("a", 1)], [("a", 1)]]


async def test_a_later_call_does_not_overtake_one_that_waits_for_the_same_key() -> None:
    operation = Operation(holds=False)
    calls: Coalescer[Request, str] = Coalescer(
        operation, owner=lambda request: request[0], key=lambda request: request[0], batching=BatchSettings(overlap=100)
    )
    asked = start(calls, *(("a", number) for number in range(20)))
    await asyncio.gather(*asked)
    assert operation.sets == [[("a", number)] for number in range(20)]


async def test_a_released_key_goes_to_the_call_that_waits_for_it_before_later_calls_in_the_queue() -> None:
    operation = Operation()
    batching = BatchSettings(overlap=2, max_batches=2, patience=1000)
    calls: Coalescer[Request, str] = Coalescer(
        operation, owner=lambda request: request[0], key=lambda request: request[0], batching=batching
    )
    asked = start(calls, ("a", 1))
    await operation.called(1)
    asked += start(calls, ("a", 2), ("b", 1))  # a second batch: "a" is busy, so that its call is parked
    await operation.called(2)
    asked += start(calls, ("a", 3))  # two batches are in flight: this call stays in the queue
    await settle()
    operation.let_one_go(0)
    await operation.called(3)
    operation.let_go()
    await asyncio.gather(*asked)
    assert operation.sets == [[("a", 1)], [("b", 1)], [("a", 2)], [("a", 3)]]


async def test_a_call_whose_caller_is_gone_is_dropped_before_it_is_sent() -> None:
    operation = Operation()
    calls = coalescer(operation)
    first = start(calls, ("a", 1))
    await operation.called(1)
    gone, waits = start(calls, ("a", 2), ("a", 3))
    await settle()
    gone.cancel()
    operation.let_go()
    assert await asyncio.gather(*first, waits) == ["done 1", "done 3"]
    assert operation.sets == [[("a", 1)], [("a", 3)]]


async def test_calls_that_waited_for_one_key_and_are_gone_do_not_stand_in_the_way() -> None:
    operation = Operation()
    calls = coalescer(operation, keyed=True, overlap=100)
    first = start(calls, ("a", 1))
    await operation.called(1)
    gone = start(calls, ("a", 1), ("a", 1), ("a", 1))
    await settle()
    last = start(calls, ("a", 1))
    await settle()
    for call in gone:
        call.cancel()
    operation.let_go()
    assert await asyncio.gather(*first, *last) == ["done 1", "done 1"]
    assert len(operation.sets) == 2


async def test_a_caller_that_goes_while_its_set_is_under_way_harms_no_other() -> None:
    operation = Operation()
    calls = coalescer(operation)
    gone, waits = start(calls, ("a", 1), ("b", 2))
    await operation.called(1)
    gone.cancel()
    operation.let_go()
    assert await waits == "done 2"


async def test_a_set_whose_callers_are_all_gone_is_cancelled() -> None:
    operation = Operation()
    calls = coalescer(operation, keyed=True)
    gone = start(calls, ("a", 1), ("b", 2))
    await operation.called(1)
    for call in gone:
        call.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    await calls.drain()
    [after] = start(calls, ("a", 1))
    await operation.called(2)
    operation.let_go()
    assert await after == "done 1"


async def test_what_waits_is_bounded_and_one_call_more_is_refused_at_once() -> None:
    operation = Operation()
    calls = coalescer(operation, max_waiting=2)
    first = start(calls, ("a", 1))
    await operation.called(1)
    waiting = start(calls, ("a", 2), ("a", 3))
    await settle()
    with pytest.raises(Overloaded):
        await calls.submit(("a", 4))
    operation.let_go()
    await asyncio.gather(*first, *waiting)
    assert await calls.submit(("a", 5)) == "done 5"


async def test_owners_take_turns() -> None:
    operation = Operation()
    calls = coalescer(operation, max_batch=3)
    first = start(calls, ("x", 0))
    await operation.called(1)
    flood = start(calls, *(("flood", number) for number in range(10)))
    single = start(calls, ("single", 1))
    await settle()
    operation.let_go()
    await asyncio.gather(*first, *flood, *single)
    assert operation.sets[1] == [("flood", 0), ("single", 1), ("flood", 1)]
    assert all(len(each) <= 3 for each in operation.sets)


async def test_a_set_that_takes_long_holds_up_nobody_but_its_own_callers() -> None:
    operation = Operation()
    calls = coalescer(operation, keyed=True, patience=0.001)
    locked = start(calls, ("a", 1))
    await operation.called(1)
    same, other = start(calls, ("a", 1), ("b", 2))
    await operation.called(2)
    assert operation.sets == [[("a", 1)], [("b", 2)]]
    operation.let_go()
    assert await asyncio.gather(*locked, same, other) == ["done 1", "done 1", "done 2"]


async def test_locked_calls_run_again_alone_with_the_patient_operation_and_keep_their_keys_busy() -> None:
    operation, patient = Operation(holds=False), Operation()
    operation.locked |= {1}
    calls = coalescer(operation, keyed=True, patient=patient)
    locked, other = start(calls, ("a", 1), ("b", 2))
    assert await other == "done 2"
    await patient.called(1)
    [parked] = start(calls, ("a", 1))
    [later] = start(calls, ("a", 3))
    assert await later == "done 3"
    assert not locked.done()
    operation.locked.clear()
    patient.let_go()
    assert [await locked, await parked] == ["done 1", "done 1"]
    assert patient.sets == [[("a", 1)]]
    assert operation.sets == [[("a", 1), ("b", 2)], [("a", 3)], [("a", 1)]]


async def test_locked_calls_are_waited_for_in_turns() -> None:
    operation, patient = Operation(holds=False), Operation()
    operation.locked |= {1, 2, 3, 4}
    calls = coalescer(operation, keyed=True, patient=patient, turns=asyncio.Semaphore(2))
    locked = start(calls, *(("a", number) for number in (1, 2, 3, 4)))
    await patient.called(2)
    await settle()
    assert len(patient.sets) == 2
    patient.let_go()
    assert await asyncio.gather(*locked) == ["done 1", "done 2", "done 3", "done 4"]


async def test_a_locked_call_whose_caller_is_gone_is_cancelled_and_its_key_is_released() -> None:
    operation, patient = Operation(holds=False), Operation()
    operation.locked |= {1, 2}
    calls = coalescer(operation, keyed=True, patient=patient, turns=asyncio.Semaphore(1))
    gone = start(calls, ("a", 1), ("a", 2))
    await patient.called(1)
    for call in gone:
        call.cancel()
    await calls.drain()
    operation.locked.clear()
    assert await asyncio.gather(*start(calls, ("a", 1), ("a", 2))) == ["done 1", "done 2"]
    assert patient.sets == [[("a", 1)]]


async def test_a_call_that_takes_long_and_was_alone_is_still_in_the_way_of_its_own_key() -> None:
    operation = Operation()
    calls = coalescer(operation, keyed=True, patience=0.0)
    asked = start(calls, ("a", 1))
    await operation.called(1)
    while calls._under_way:
        await settle()
    asked += start(calls, ("a", 1))
    await settle()
    assert operation.sets == [[("a", 1)]]
    operation.let_go()
    await asyncio.gather(*asked)


async def test_drain_returns_when_everything_that_was_asked_is_answered() -> None:
    operation = Operation()
    calls = coalescer(operation)
    asked = start(calls, ("a", 1))
    await operation.called(1)
    asked += start(calls, ("a", 2), ("b", 3))
    drained = asyncio.ensure_future(calls.drain())
    await settle()
    assert not drained.done()
    operation.let_go()
    await drained
    assert all(call.done() for call in asked)


async def test_drain_waits_for_a_call_that_is_alone() -> None:
    operation = Operation()
    calls = coalescer(operation)
    [asked] = start(calls, ("a", 1))
    await operation.called(1)
    drained = asyncio.ensure_future(calls.drain())
    await settle()
    assert not drained.done()
    operation.let_go()
    await drained
    assert asked.done()


async def test_next_to_nothing_is_not_gathered() -> None:
    operation = Operation()
    calls = coalescer(operation, overlap=2)
    asked = start(calls, ("a", 1))
    await operation.called(1)
    asked += start(calls, ("b", 2))
    await operation.called(2)
    operation.let_go()
    await asyncio.gather(*asked)
    assert operation.sets == [[("a", 1)], [("b", 2)]]


async def crowd(operation: Operation, calls: Coalescer[Request, str], size: int) -> None:
    """Have the coalescer see so many calls at once, and answer them."""
    first = start(calls, ("crowd", "first"))
    await operation.called(1)
    others = start(calls, *(("crowd", number) for number in range(size)))
    await settle()
    operation.let_go()
    await asyncio.gather(*first, *others)
    assert [1, size] == [len(each) for each in operation.sets]


async def test_nearly_all_of_the_crowd_make_a_set() -> None:
    operation = Operation()
    calls = coalescer(operation, window=1000, look_around=1000)
    await crowd(operation, calls, 8)
    waiting = start(calls, *(("a", number) for number in range(6)))
    await settle()
    assert len(operation.sets) == 2
    waiting += start(calls, ("a", 6))
    await asyncio.gather(*waiting)
    assert operation.sets[2:] == [[("a", number) for number in range(7)]]


async def test_what_waits_is_sent_when_nobody_new_comes() -> None:
    operation = Operation()
    calls = coalescer(operation, window=1000, linger=1000)
    await crowd(operation, calls, 8)
    await asyncio.gather(*start(calls, ("a", 1), ("a", 2)))
    assert operation.sets[2:] == [[("a", 1), ("a", 2)]]


@pytest.mark.parametrize(("max_batches", "sent"), [(1, 3), (2, 4)])
async def test_beside_sets_that_are_under_way_more_are_sent_when_nobody_new_comes(max_batches: int, sent: int) -> None:
    operation = Operation()
    calls = coalescer(operation, window=1000, look_around=0.0, max_batches=max_batches)
    await crowd(operation, calls, 8)
    operation.hold()
    asked = start(calls, *(("a", number) for number in range(4)))
    await operation.called(3)
    asked += start(calls, ("b", 1))
    await settle()
    assert sent == len(operation.sets)
    operation.let_go()
    await asyncio.gather(*asked)


async def test_what_waits_is_not_held_back_for_longer_than_the_linger_though_others_come() -> None:
    operation = Operation()
    calls = coalescer(operation, window=1000, look_around=0.0, linger=0.0)
    await crowd(operation, calls, 256)
    waiting: list[asyncio.Task[str]] = []
    while len(operation.sets) == 2:
        waiting += start(calls, ("a", len(waiting)))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert len(operation.sets[2]) < BatchSettings().enough


async def test_a_crowd_is_not_expected_for_longer_than_two_windows() -> None:
    operation = Operation()
    calls = coalescer(operation, window=0.0)
    await crowd(operation, calls, 8)
    for _ in range(3):
        await asyncio.gather(*start(calls, ("a", 1)))
    assert calls._peak.size == 1


def test_a_crowd_of_long_ago_is_not_expected_at_all() -> None:
    crowd = PeakConcurrency(1.0)
    crowd.see(8, 10.0)
    crowd.see(1, 11.5)
    assert crowd.size == 8
    crowd.see(1, 20.0)
    assert crowd.size == 1


async def test_once_in_a_window_the_crowd_is_counted_and_not_taken_for_granted() -> None:
    operation = Operation()
    calls = coalescer(operation, window=0.0, look_around=1000)
    await crowd(operation, calls, 8)
    waiting = start(calls, *(("a", number) for number in range(7)))
    await settle()
    assert len(operation.sets) == 2
    for call in waiting:
        call.cancel()
