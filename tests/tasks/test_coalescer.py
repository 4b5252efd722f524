"""The promises of the coalescer, a test for each. Tests release batches by hand, never by time."""

import asyncio
from collections.abc import Sequence

import pytest

from service.errors import DatabaseUnavailable, Overloaded, TaskNotFound
from service.tasks.batches import BatchSettings, PeakConcurrency
from service.tasks.coalescer import Coalescer
from service.tasks.store import Locked

Request = tuple[str, object]
"""An owner, and the content of the request."""


class Operation:
    """A batch operation that holds every batch until the test releases it, and records the requests."""

    def __init__(self, *, holds: bool = True) -> None:
        self.batches: list[list[Request]] = []
        self.poison: set[object] = set()
        self.locked: set[object] = set()
        self.failure: Exception = ValueError("poisoned")
        self._holds = holds
        self._gates: list[asyncio.Event] = []
        self._called = asyncio.Condition()

    async def __call__(self, requests: Sequence[Request]) -> list[str | Exception]:
        self.batches.append(list(requests))
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
        """Return when the operation was called this many times."""
        async with self._called:
            await asyncio.wait_for(self._called.wait_for(lambda: len(self.batches) >= times), 10)

    def hold(self) -> None:
        """Hold every later batch."""
        self._holds = True

    def release(self) -> None:
        """Let all held batches return, and all later ones at once."""
        self._holds = False
        for gate in self._gates:
            gate.set()

    def release_one(self, number: int) -> None:
        """Let the batch with this number return, counted from 0."""
        self._gates[number].set()


def coalescer(
    operation: Operation,
    *,
    keyed: bool = False,
    by_owner: bool = False,
    patient: Operation | None = None,
    turns: asyncio.Semaphore | None = None,
    **how: float,
) -> Coalescer[Request, str]:
    batching = BatchSettings(**{"overlap": 1, "max_batches": how.get("overlap", 1), **how})  # type: ignore[arg-type]
    key = (lambda request: request) if keyed else None
    return Coalescer(
        operation,
        owner=lambda request: request[0],
        by_owner=by_owner,
        key=key,
        patient=patient,
        turns=turns,
        batching=batching,
    )


async def settle() -> None:
    """Run the event loop until nothing more can happen without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)


def start(calls: Coalescer[Request, str], *requests: Request) -> list[asyncio.Task[str]]:
    return [asyncio.ensure_future(calls.submit(request)) for request in requests]


async def together(operation: Operation, *requests: Request) -> list[str | BaseException]:
    """The outcomes of requests that are sent in one batch, after a batch of one."""
    calls = coalescer(operation)
    first = start(calls, ("first", "first"))
    await operation.called(1)
    others = start(calls, *requests)
    await settle()
    operation.release()
    await asyncio.gather(*first)
    return await asyncio.gather(*others, return_exceptions=True)


async def test_calls_that_arrive_during_a_batch_form_the_next_batch() -> None:
    operation = Operation()
    calls = coalescer(operation, look_around=0.0)
    first = start(calls, ("a", 1))
    await operation.called(1)
    others = start(calls, ("a", 2), ("b", 3), ("c", 4))
    await settle()
    assert operation.batches == [[("a", 1)]]
    operation.release()
    assert await asyncio.gather(*first, *others) == ["done 1", "done 2", "done 3", "done 4"]
    assert operation.batches == [[("a", 1)], [("a", 2), ("b", 3), ("c", 4)]]


async def test_a_call_returns_after_its_batch_has_returned_and_not_before() -> None:
    operation = Operation()
    [call] = start(coalescer(operation), ("a", 1))
    await operation.called(1)
    await settle()
    assert not call.done()
    operation.release()
    assert await call == "done 1"


async def test_a_call_does_not_join_a_batch_that_was_sent_before_it() -> None:
    operation = Operation()
    calls = coalescer(operation)
    first = start(calls, ("a", 1))
    await operation.called(1)
    second = start(calls, ("a", 1))
    operation.release()
    await asyncio.gather(*first, *second)
    assert operation.batches == [[("a", 1)], [("a", 1)]]


async def test_an_exception_as_outcome_is_raised_to_its_own_caller() -> None:
    calls = coalescer(Operation(holds=False))
    fine, missing = await asyncio.gather(*start(calls, ("a", 1), ("a", "missing")), return_exceptions=True)
    assert fine == "done 1"
    assert isinstance(missing, TaskNotFound)


async def test_a_failed_batch_is_run_again_call_by_call() -> None:
    operation = Operation()
    operation.poison = {2}
    outcomes = await together(operation, ("a", 1), ("b", 2), ("c", 3))
    assert [str(outcome) for outcome in outcomes] == ["done 1", "poisoned", "done 3"]
    assert operation.batches[1:] == [[("a", 1), ("b", 2), ("c", 3)], [("a", 1)], [("b", 2)], [("c", 3)]]


async def test_a_batch_that_fails_for_lack_of_a_database_is_not_run_again() -> None:
    operation = Operation()
    operation.poison, operation.failure = {1}, DatabaseUnavailable()
    outcomes = await together(operation, ("a", 1), ("b", 2))
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 2
    assert len(operation.batches) == 2


async def test_calls_with_the_same_key_run_in_sequence_in_the_order_of_arrival() -> None:
    operation = Operation()
    calls = coalescer(operation, keyed=True, overlap=100)
    first = start(calls, ("a", 1))
    await operation.called(1)
    others = start(calls, ("a", 1), ("a", 2), ("a", 1), ("b", 1))
    await operation.called(2)
    await settle()
    assert operation.batches == [[("a", 1)], [("b", 1), ("a", 2)]]
    operation.release()
    await asyncio.gather(*first, *others)
    assert operation.batches[2:] == [[("a", 1)], [("a", 1)]]


async def test_a_later_call_does_not_overtake_a_call_that_waits_for_the_same_key() -> None:
    operation = Operation(holds=False)
    calls: Coalescer[Request, str] = Coalescer(
        operation, owner=lambda request: request[0], key=lambda request: request[0], batching=BatchSettings(overlap=100)
    )
    asked = start(calls, *(("a", number) for number in range(20)))
    await asyncio.gather(*asked)
    assert operation.batches == [[("a", number)] for number in range(20)]


async def test_a_released_key_goes_to_the_parked_call_before_later_calls_in_the_queue() -> None:
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
    operation.release_one(0)
    await operation.called(3)
    operation.release()
    await asyncio.gather(*asked)
    assert operation.batches == [[("a", 1)], [("b", 1)], [("a", 2)], [("a", 3)]]
    assert (calls._ready, calls.waiting) == (0, 0)


async def test_a_cancelled_call_is_dropped_before_it_is_sent() -> None:
    operation = Operation()
    calls = coalescer(operation)
    first = start(calls, ("a", 1))
    await operation.called(1)
    gone, waits = start(calls, ("a", 2), ("a", 3))
    await settle()
    gone.cancel()
    operation.release()
    assert await asyncio.gather(*first, waits) == ["done 1", "done 3"]
    assert operation.batches == [[("a", 1)], [("a", 3)]]
    assert calls.waiting == 0


async def test_cancelled_calls_that_waited_for_a_key_do_not_block_it() -> None:
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
    operation.release()
    assert await asyncio.gather(*first, *last) == ["done 1", "done 1"]
    assert len(operation.batches) == 2


async def test_a_call_cancelled_during_its_batch_harms_no_other_call() -> None:
    operation = Operation()
    calls = coalescer(operation)
    gone, waits = start(calls, ("a", 1), ("b", 2))
    await operation.called(1)
    gone.cancel()
    operation.release()
    assert await waits == "done 2"


async def test_a_batch_whose_calls_are_all_cancelled_is_cancelled() -> None:
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
    operation.release()
    assert await after == "done 1"


async def test_waiting_calls_are_bounded_and_one_more_is_refused_at_once() -> None:
    operation = Operation()
    calls = coalescer(operation, max_waiting=2)
    first = start(calls, ("a", 1))
    await operation.called(1)
    waiting = start(calls, ("a", 2), ("a", 3))
    await settle()
    with pytest.raises(Overloaded):
        await calls.submit(("a", 4))
    operation.release()
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
    operation.release()
    await asyncio.gather(*first, *flood, *single)
    assert operation.batches[1] == [("flood", 0), ("single", 1), ("flood", 1)]
    assert all(len(each) <= 3 for each in operation.batches)


async def test_a_slow_batch_delays_no_calls_but_its_own() -> None:
    operation = Operation()
    calls = coalescer(operation, keyed=True, patience=0.001)
    locked = start(calls, ("a", 1))
    await operation.called(1)
    same, other = start(calls, ("a", 1), ("b", 2))
    await operation.called(2)
    assert operation.batches == [[("a", 1)], [("b", 2)]]
    operation.release()
    assert await asyncio.gather(*locked, same, other) == ["done 1", "done 1", "done 2"]


async def test_a_locked_call_runs_again_alone_and_keeps_its_key_busy() -> None:
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
    patient.release()
    assert [await locked, await parked] == ["done 1", "done 1"]
    assert patient.batches == [[("a", 1)]]
    assert operation.batches == [[("a", 1), ("b", 2)], [("a", 3)], [("a", 1)]]


async def test_calls_without_key_wait_for_a_locked_call_of_their_owner_and_then_run_together() -> None:
    operation, patient = Operation(holds=False), Operation()
    operation.locked |= {1, 2}
    calls = coalescer(operation, patient=patient)
    first = start(calls, ("a", 1), ("a", 2), ("b", 3))
    assert await first[2] == "done 3"
    await patient.called(1)
    later = start(calls, ("a", 4), ("a", 5))
    assert await asyncio.gather(*start(calls, ("b", 6))) == ["done 6"]
    assert not any(call.done() for call in (*first[:2], *later))
    operation.locked.clear()
    patient.release()
    assert await asyncio.gather(*first, *later) == ["done 1", "done 2", "done 3", "done 4", "done 5"]
    assert patient.batches == [[("a", 1)]]
    assert operation.batches[-1] == [("a", 2), ("a", 4), ("a", 5)]
    assert calls.waiting == 0


async def test_locked_calls_that_run_again_are_bounded() -> None:
    operation, patient = Operation(holds=False), Operation()
    operation.locked |= {1, 2, 3, 4}
    calls = coalescer(operation, keyed=True, patient=patient, turns=asyncio.Semaphore(2))
    locked = start(calls, *(("a", number) for number in (1, 2, 3, 4)))
    await patient.called(2)
    await settle()
    assert len(patient.batches) == 2
    patient.release()
    assert await asyncio.gather(*locked) == ["done 1", "done 2", "done 3", "done 4"]


async def test_a_locked_call_that_is_cancelled_releases_its_key() -> None:
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
    assert patient.batches == [[("a", 1)]]


async def test_an_owner_that_was_locked_in_vain_is_not_batched_with_others_until_a_call_succeeds() -> None:
    operation, patient = Operation(holds=False), Operation()
    operation.locked |= {1}
    calls = coalescer(operation, patient=patient)
    gone, _ = start(calls, ("a", 1), ("b", 2))
    await patient.called(1)
    gone.cancel()
    await calls.drain()
    assert await asyncio.gather(*start(calls, ("a", 3), ("b", 4), ("a", 5))) == ["done 3", "done 4", "done 5"]
    assert sorted(operation.batches[1:], key=str) == [[("a", 3)], [("a", 5)], [("b", 4)]]
    assert await asyncio.gather(*start(calls, ("a", 6), ("b", 7))) == ["done 6", "done 7"]
    assert sorted(operation.batches[-1], key=str) == [("a", 6), ("b", 7)]


async def test_an_owner_that_is_still_locked_waits_alone() -> None:
    operation, patient = Operation(holds=False), Operation()
    operation.locked |= {1, 3}
    calls = coalescer(operation, patient=patient)
    [gone] = start(calls, ("a", 1))
    await patient.called(1)
    gone.cancel()
    await calls.drain()
    locked, other, parked = start(calls, ("a", 3), ("b", 4), ("a", 5))
    assert await other == "done 4"
    await patient.called(2)
    await settle()
    assert not any(("a", 5) in batch for batch in operation.batches)
    assert not locked.done()
    operation.locked.clear()
    patient.release()
    assert [await locked, await parked] == ["done 3", "done 5"]
    assert patient.batches[1:] == [[("a", 3)]]
    assert calls.waiting == 0


async def test_a_slow_call_still_blocks_its_own_key() -> None:
    operation = Operation()
    calls = coalescer(operation, keyed=True, patience=0.0)
    asked = start(calls, ("a", 1))
    await operation.called(1)
    while calls._under_way:
        await settle()
    asked += start(calls, ("a", 1))
    await settle()
    assert operation.batches == [[("a", 1)]]
    operation.release()
    await asyncio.gather(*asked)


async def test_drain_waits_for_queued_calls_and_for_batches_in_flight() -> None:
    operation = Operation()
    calls = coalescer(operation)
    asked = start(calls, ("a", 1))
    await operation.called(1)
    asked += start(calls, ("a", 2), ("b", 3))
    drained = asyncio.ensure_future(calls.drain())
    await settle()
    assert not drained.done()
    operation.release()
    await drained
    assert all(call.done() for call in asked)


async def test_drain_waits_for_a_batch_in_flight() -> None:
    operation = Operation()
    calls = coalescer(operation)
    [asked] = start(calls, ("a", 1))
    await operation.called(1)
    drained = asyncio.ensure_future(calls.drain())
    await settle()
    assert not drained.done()
    operation.release()
    await drained
    assert asked.done()


async def test_by_owner_a_batch_has_calls_of_one_owner_and_those_that_arrive_meanwhile_form_the_next() -> None:
    operation = Operation()
    batches = coalescer(operation, by_owner=True, max_batches=2, patience=10.0)
    calls = [asyncio.ensure_future(batches.submit((owner, number))) for number in range(3) for owner in "ab"]
    await operation.called(2)
    assert operation.batches == [[("a", 0), ("a", 1), ("a", 2)], [("b", 0), ("b", 1), ("b", 2)]]
    calls += [asyncio.ensure_future(batches.submit((owner, number))) for number in (3, 4) for owner in "abc"]
    await settle()
    assert len(operation.batches) == 2  # neither a second one for `a` nor a third for `c`
    operation.release_one(1)
    await operation.called(3)
    assert operation.batches[2:] == [[("b", 3), ("b", 4)]]
    operation.release()
    await asyncio.gather(*calls)
    assert sorted(operation.batches[3:]) == [[("a", 3), ("a", 4)], [("c", 3), ("c", 4)]]


async def test_by_owner_calls_with_the_same_key_run_in_sequence() -> None:
    operation = Operation()
    batches = coalescer(operation, by_owner=True, keyed=True, max_batches=4, patience=0.0)
    calls = [asyncio.ensure_future(batches.submit(("a", number))) for number in (1, 1, 2)]
    await operation.called(1)
    await settle()
    assert operation.batches == [[("a", 1), ("a", 2)]]
    operation.release()
    await asyncio.gather(*calls)
    assert operation.batches[1:] == [[("a", 1)]]


async def test_two_calls_are_not_batched() -> None:
    operation = Operation()
    calls = coalescer(operation, overlap=2)
    asked = start(calls, ("a", 1))
    await operation.called(1)
    asked += start(calls, ("b", 2))
    await operation.called(2)
    operation.release()
    await asyncio.gather(*asked)
    assert operation.batches == [[("a", 1)], [("b", 2)]]


async def peak_of(operation: Operation, calls: Coalescer[Request, str], size: int) -> None:
    """Have the coalescer see a peak concurrency of this size, and complete the calls."""
    first = start(calls, ("peak", "first"))
    await operation.called(1)
    others = start(calls, *(("peak", number) for number in range(size)))
    await settle()
    operation.release()
    await asyncio.gather(*first, *others)
    assert [1, size] == [len(each) for each in operation.batches]


async def test_a_batch_is_sent_when_most_of_the_peak_concurrency_waits() -> None:
    operation = Operation()
    calls = coalescer(operation, window=1000, look_around=1000)
    await peak_of(operation, calls, 8)
    waiting = start(calls, *(("a", number) for number in range(6)))
    await settle()
    assert len(operation.batches) == 2
    waiting += start(calls, ("a", 6))
    await asyncio.gather(*waiting)
    assert operation.batches[2:] == [[("a", number) for number in range(7)]]


async def test_waiting_calls_are_sent_at_the_second_look_at_which_no_call_has_arrived() -> None:
    operation = Operation()
    calls = coalescer(operation, window=1000, linger=1000, look_around=1000)
    await peak_of(operation, calls, 8)
    never, batches = float("inf"), len(operation.batches)
    waiting = start(calls, ("a", 1))
    await settle()
    arrived = calls._arrived
    waiting += start(calls, ("a", 2))
    await settle()
    for seen, in_vain in ((arrived, 1), (calls._arrived, 0)):  # a call has arrived since; the first look in vain
        calls._look(seen, in_vain, never)
        await settle()
        assert len(operation.batches) == batches
    calls._look(calls._arrived, 1, never)
    await asyncio.gather(*waiting)
    assert operation.batches[batches:] == [[("a", 1), ("a", 2)]]


async def test_batches_in_flight_are_bounded_by_the_overlap_while_calls_arrive() -> None:
    operation = Operation()
    calls = coalescer(operation, overlap=2, window=1000, look_around=1000, patience=1000)
    await peak_of(operation, calls, 8)
    operation.hold()
    asked: list[asyncio.Task[str]] = []
    for batch in range(3):
        asked += start(calls, *((f"owner {batch}", number) for number in range(7)))
        await settle()
    assert len(operation.batches) == 2 + 2
    operation.release_one(2)
    await operation.called(5)
    operation.release()
    await asyncio.gather(*asked)


async def test_the_size_of_each_batch_is_reported_and_calls_in_flight_count_as_concurrent() -> None:
    sizes: list[tuple[str, int]] = []
    operation = Operation()
    batching = BatchSettings(overlap=3, window=1000, patience=1000)
    calls = Coalescer(
        operation,
        owner=lambda request: request[0],
        batching=batching,
        name="get",
        on_batch=lambda name, waits: sizes.append((name, len(waits))),
    )
    asked = start(calls, ("a", 1))
    await operation.called(1)
    asked += start(calls, ("a", 2), ("a", 3))
    await operation.called(2)
    operation.release()
    await asyncio.gather(*asked)
    assert sizes == [("get", 1), ("get", 2)]
    assert calls._peak.size >= 2


async def test_waiting_calls_are_sent_when_no_new_call_arrives() -> None:
    operation = Operation()
    calls = coalescer(operation, window=1000, linger=1000)
    await peak_of(operation, calls, 8)
    await asyncio.gather(*start(calls, ("a", 1), ("a", 2)))
    assert operation.batches[2:] == [[("a", 1), ("a", 2)]]


@pytest.mark.parametrize(("max_batches", "sent"), [(1, 3), (2, 4)])
async def test_more_batches_are_sent_beside_those_in_flight_when_no_new_call_arrives(
    max_batches: int, sent: int
) -> None:
    operation = Operation()
    calls = coalescer(operation, window=1000, look_around=0.0, max_batches=max_batches)
    await peak_of(operation, calls, 8)
    operation.hold()
    asked = start(calls, *(("a", number) for number in range(4)))
    await operation.called(3)
    asked += start(calls, ("b", 1))
    await settle()
    assert sent == len(operation.batches)
    operation.release()
    await asyncio.gather(*asked)


async def test_a_waiting_call_is_sent_after_the_linger_though_new_calls_arrive() -> None:
    operation = Operation()
    calls = coalescer(operation, window=1000, look_around=0.0, linger=0.0)
    await peak_of(operation, calls, 256)
    waiting: list[asyncio.Task[str]] = []
    while len(operation.batches) == 2:
        waiting += start(calls, ("a", len(waiting)))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert len(operation.batches[2]) < BatchSettings().enough


async def test_a_peak_of_concurrency_is_forgotten_after_two_windows() -> None:
    operation = Operation()
    calls = coalescer(operation, window=0.0)
    await peak_of(operation, calls, 8)
    for _ in range(3):
        await asyncio.gather(*start(calls, ("a", 1)))
    assert calls._peak.size == 1


def test_a_peak_of_concurrency_before_a_pause_is_forgotten_at_once() -> None:
    peak = PeakConcurrency(1.0)
    peak.see(8, 10.0)
    peak.see(1, 11.5)
    assert peak.size == 8
    peak.see(1, 20.0)
    assert peak.size == 1


async def test_concurrency_is_counted_anew_once_in_a_window() -> None:
    operation = Operation()
    calls = coalescer(operation, window=0.0, look_around=1000)
    await peak_of(operation, calls, 8)
    waiting = start(calls, *(("a", number) for number in range(7)))
    await settle()
    assert len(operation.batches) == 2
    for call in waiting:
        call.cancel()
