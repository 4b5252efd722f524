"""The short form of tests/soak/steady_load.py, and tests of its judgement."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.running import running_addresses, settings_for
from tests.soak.steady_load import SAMPLES, Sample, Server
from tests.soak.task_lives import CALLS_PER_LIFE, Load


def server(*rss: float) -> Server:
    """A server with samples of this resident memory (MiB), and nothing else that changes."""
    sampled = Server("SQLite", "", Path(), 0, Load("", ""))
    sampled.samples = [Sample(each, 50, 16, 4, 0) for each in rss]
    return sampled


def test_soak_makes_every_call_over_grpc_and_rest(sqlite_url: str) -> None:
    async def tasks_left_by(load: Load) -> int:
        await load.run(rate=300, until=time.monotonic() + 0.3)
        left = await load.tasks_left()
        await load.close()
        return left

    with running_addresses(settings_for(sqlite_url, rest_address="127.0.0.1:0")) as addresses:
        load = Load(addresses.grpc, addresses.rest)
        assert asyncio.run(tasks_left_by(load)) == 0
    assert load.failures() == []
    assert len(load.outcomes) == 2 * CALLS_PER_LIFE


def test_soak_finds_memory_that_grows_after_the_warm_up() -> None:
    growing = [100 + 10 * number / SAMPLES for number in range(SAMPLES)]
    assert server(*growing).leaks() == ["rss grew by 6.0"]


@pytest.mark.parametrize(
    "rss", [[50 + number for number in range(60)] + [110] * 180, [100, 100.1] * 120, [100] * 239 + [300]]
)
def test_soak_takes_no_warm_up_and_no_spike_for_a_leak(rss: list[float]) -> None:
    assert server(*rss).leaks() == []
