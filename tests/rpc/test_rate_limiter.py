"""The buckets of callers: what they let through, when, and how much is remembered."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import RateLimited
from service.rpc import rate_limit as rate_limit_module
from service.rpc.rate_limit import RateLimiter, RefusalDelay
from tests.auth.issuing import Clock


class Held:
    """Buckets, and their clock."""

    def __init__(self, rate: float, burst: int) -> None:
        self.clock = Clock(1000.0)
        self.rates = RateLimiter(rate=rate, burst=burst, clock=self.clock)

    def wait(self, user: str = "alice") -> float:
        """Call; answers how long to wait, 0 for a call that is let through."""
        try:
            self.rates.take(user)
        except RateLimited as limited:
            return limited.seconds
        return 0


def test_a_burst_passes_and_then_a_call_for_each_token() -> None:
    held = Held(rate=4, burst=3)
    assert [held.wait() for _ in range(5)] == [0, 0, 0, 0.25, 0.25]
    held.clock.now += 0.125
    assert held.wait() == 0.125
    held.clock.now += 0.125
    assert [held.wait() for _ in range(2)] == [0, 0.25]
    held.clock.now += 0.5
    assert [held.wait() for _ in range(3)] == [0, 0, 0.25]
    held.clock.now += 3600
    assert [held.wait() for _ in range(4)] == [0, 0, 0, 0.25], "no more than a burst is saved up"


def test_a_slow_rate_lets_one_through_at_a_time() -> None:
    held = Held(rate=0.5, burst=1)
    assert [held.wait(), held.wait()] == [0, 2]
    held.clock.now += 2
    assert [held.wait(), held.wait()] == [0, 2]


def test_callers_have_buckets_of_their_own() -> None:
    held = Held(rate=1, burst=1)
    assert [held.wait("alice"), held.wait("alice"), held.wait("bob"), held.wait("Alice")] == [0, 1, 0, 0]


@given(st.lists(st.integers(0, 12), max_size=80), st.sampled_from([1, 2, 4, 8]), st.integers(1, 5))
def test_it_decides_as_a_bucket_of_tokens_does(pauses: list[int], rate: int, burst: int) -> None:
    held = Held(rate=rate, burst=burst)
    # In quarters of a token, and with powers of two, so that nothing is rounded.
    quarters = 4 * burst
    for pause in pauses:
        held.clock.now += pause / (4 * rate)
        quarters = min(4 * burst, quarters + pause)
        wait = held.wait()
        expected = max(0, 4 - quarters) / (4 * rate)
        assert wait == expected
        quarters -= 0 if expected else 4


def test_idle_callers_are_forgotten() -> None:
    held = Held(rate=10, burst=10)
    for number in range(1000):
        assert held.wait(f"user-{number}") == 0
        held.clock.now += 0.01
    assert len(held.rates._full_at) <= 11


def test_no_more_than_so_many_are_remembered_and_those_who_called_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit_module, "MAX_BUCKETS", 100)
    held = Held(rate=0.001, burst=1)
    for number in range(1000):
        assert held.wait(f"user-{number}") == 0
        assert held.wait("alice") == (0 if number == 0 else 1000)
        assert len(held.rates._full_at) <= 100
    assert held.wait("user-999") == 1000
    assert held.wait("user-1") == 0


async def test_rate_limit_errors_beyond_the_bound_are_not_delayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit_module, "_MAX_DELAYED", 2)
    monkeypatch.setattr(rate_limit_module, "MIN_DELAY", 1000.0)
    delay, refusal = RefusalDelay(), RateLimited(seconds=5000)

    async def delayed() -> asyncio.Task[RateLimited]:
        task = asyncio.create_task(delay.wait(refusal, None))
        await asyncio.sleep(0)
        return task

    first, second, third = [await delayed() for _ in range(3)]
    assert [first.done(), second.done(), third.done()] == [False, False, True]
    assert third.result() is refusal
    second.cancel()  # its caller is gone: another error may be delayed instead
    await asyncio.sleep(0)
    fourth, fifth = [await delayed() for _ in range(2)]
    assert [first.done(), fourth.done(), fifth.done()] == [False, False, True]
    for task in (first, fourth):
        task.cancel()
