"""Admission: calls wait for others to end, in turns of their users, and not for long."""

import asyncio
from collections.abc import Sequence

import pytest

from service.errors import Overloaded
from service.rpc import admission
from service.rpc.admission import Admission
from tests.waiting import eventually


async def entering(gate: Admission, owners: Sequence[str]) -> tuple[list[asyncio.Task[None]], list[int]]:
    """Start calls of these owners. Returns them, and the list of those that were admitted, in their order."""
    admitted: list[int] = []

    async def enter(number: int, owner: str) -> None:
        await gate.enter(owner, 1)
        admitted.append(number)

    calls = [asyncio.create_task(enter(number, owner)) for number, owner in enumerate(owners)]
    await eventually(lambda: gate.running + gate.waiting == len(calls))
    return calls, admitted


async def test_as_many_calls_run_as_may_and_the_others_follow_when_those_end() -> None:
    gate = Admission(2)
    calls, admitted = await entering(gate, "aaaa")
    assert (gate.running, gate.waiting, admitted) == (2, 2, [0, 1])
    for _ in calls:
        gate.leave()
    await asyncio.gather(*calls)
    assert (gate.running, gate.waiting, admitted) == (0, 0, [0, 1, 2, 3])


async def test_users_take_turns_in_the_admission() -> None:
    gate = Admission(1)
    calls, admitted = await entering(gate, "aaaabc")
    for _ in calls:
        gate.leave()
    await asyncio.gather(*calls)
    assert admitted == [0, 1, 4, 5, 2, 3]


async def test_a_call_that_waits_too_long_for_admission_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_WAIT", 0.05)
    gate = Admission(1)
    [_, waiting], _ = await entering(gate, "aa")
    with pytest.raises(Overloaded):
        await waiting
    assert (gate.running, gate.waiting) == (1, 0)
    gate.leave()
    await gate.enter("a", 1)


@pytest.mark.parametrize(("limit", "most"), [("MAX_WAITING", 2), ("MAX_WAITING_BYTES", 2)])
async def test_too_many_calls_that_wait_for_admission_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(admission, limit, most)
    gate = Admission(1)
    calls, _ = await entering(gate, "aaa")
    with pytest.raises(Overloaded):
        await gate.enter("b", 1)
    assert not any(call.done() for call in calls[1:])
    for _ in calls:
        gate.leave()
    await asyncio.gather(*calls)


async def test_a_call_that_is_cancelled_keeps_no_place_in_the_admission() -> None:
    gate = Admission(1)
    calls, _ = await entering(gate, "aaa")
    calls[1].cancel()  # while it waits
    gate.leave()
    calls[2].cancel()  # when it was admitted, before it runs
    await asyncio.gather(*calls, return_exceptions=True)
    assert (gate.running, gate.waiting) == (0, 0)
