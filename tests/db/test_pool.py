"""The promises of the connection pool, on connections that are made up."""

import asyncio
import time
from typing import Any

import psycopg
import pytest

from service.db import pool as pool_module
from service.db.pool import Pool, Pooled, PoolSettings, PoolTimeout


class Maker:
    """Makes numbered connections, or fails, or takes its time, as it is told."""

    def __init__(self) -> None:
        self.made = 0
        self.closed: list[int] = []
        self.failure: Exception | None = None
        self.slow = False
        self.answers: asyncio.Event | None = None
        self.fails_later: asyncio.Future[None] | None = None
        self.silent: set[int] = set()
        self.unusable: set[int] = set()
        self.pinged: list[int] = []

    async def connect(self) -> int:
        if self.slow:
            await asyncio.get_running_loop().create_future()
        if self.answers:
            await self.answers.wait()
        if self.fails_later:
            fails, self.fails_later = self.fails_later, None
            await fails
            raise psycopg.OperationalError("refused")
        if self.failure:
            raise self.failure
        self.made += 1
        return self.made

    def is_usable(self, connection: int) -> bool:
        return connection not in self.unusable

    async def ping(self, connection: int) -> None:
        self.pinged.append(connection)
        if connection in self.silent:
            raise psycopg.OperationalError("no answer")

    def close(self, connection: int) -> None:
        self.closed.append(connection)


class Clock:
    """A monotonic clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pool_module, "monotonic", clock)
    return clock


def pool_of(maker: Maker, **settings: Any) -> Pool[int]:
    return Pool(maker, PoolSettings(**settings))


def start(pool: Pool[int], count: int = 1) -> list[asyncio.Task[Pooled[int]]]:
    return [asyncio.ensure_future(pool.acquire()) for _ in range(count)]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def several(pool: Pool[int], count: int) -> list[Pooled[int]]:
    return [await pool.acquire() for _ in range(count)]


async def test_the_most_recently_used_connection_is_used_again(maker: Maker) -> None:
    pool = pool_of(maker)
    for each in await several(pool, 3):
        pool.release(each)
    assert [each.connection for each in await several(pool, 3)] == [3, 2, 1]


async def test_callers_are_served_in_the_order_of_their_arrival_and_get_no_connection_twice(maker: Maker) -> None:
    pool = pool_of(maker, size=1, max_overflow=0)
    held = await pool.acquire()
    waiting = start(pool, 3)
    await settle()
    for task in waiting:
        assert not task.done()
        pool.release(held)
        held = await task
    assert (maker.made, pool.in_use) == (1, 1)


async def test_connections_beyond_the_size_are_closed_when_they_come_back(maker: Maker) -> None:
    pool = pool_of(maker, size=1, max_overflow=1)
    for each in await several(pool, 2):
        pool.release(each)
    assert maker.closed == [2]


async def test_there_are_never_more_connections_than_the_limit(maker: Maker) -> None:
    pool = pool_of(maker, size=2, max_overflow=1)
    tasks = start(pool, 10)
    await settle()
    assert (maker.made, sum(task.done() for task in tasks)) == (3, 3)
    for task in tasks:
        pool.release(await task)
    assert maker.made == 3


async def test_a_caller_that_waits_in_vain_gets_pool_timeout(maker: Maker) -> None:
    pool = pool_of(maker, size=1, max_overflow=0, timeout=0.01)
    await pool.acquire()
    with pytest.raises(PoolTimeout):
        await pool.acquire()


async def test_a_failed_connect_fails_everybody_at_once_if_no_connection_works(maker: Maker) -> None:
    maker.failure = OSError("refused")
    pool = pool_of(maker, timeout=3600)
    outcomes = await asyncio.gather(*start(pool, 20), return_exceptions=True)
    assert outcomes == [maker.failure] * 20
    maker.failure = None
    assert (await pool.acquire()).connection == 1


async def test_a_failed_connect_waits_for_a_connection_that_works(maker: Maker) -> None:
    pool = pool_of(maker, timeout=3600)
    held = await pool.acquire()
    maker.failure = psycopg.OperationalError("too many connections")
    waiting = start(pool, 5)
    await settle()
    for task in waiting:
        assert not task.done()
        pool.release(held)
        held = await task
    assert maker.made == 1


async def test_connecting_is_tried_again_while_other_connections_are_in_use(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_CONNECT_AGAIN", 0.001)
    pool = pool_of(maker, timeout=3600)
    await pool.acquire()
    maker.failure = OSError("refused")
    [waiting] = start(pool)
    await settle()
    maker.failure = None
    assert (await waiting).connection == 2


async def test_callers_that_wait_for_the_last_connection_connect_anew_when_it_is_lost(maker: Maker) -> None:
    pool = pool_of(maker, size=1, max_overflow=0, timeout=3600)
    held = await pool.acquire()
    [waiting] = start(pool)
    await settle()
    held.is_broken = True
    pool.release(held)
    assert ((await waiting).connection, maker.closed) == (2, [1])


async def test_a_connect_that_hangs_does_not_keep_callers_from_a_connection_that_works(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_SLOW_CONNECT", 0.001)
    pool = pool_of(maker, timeout=3600)
    maker.slow = True
    waiting = start(pool, 10)
    await settle()
    maker.slow = False
    await asyncio.gather(*waiting)
    pool.close()


async def test_a_caller_that_gives_up_takes_no_connection_with_it(maker: Maker) -> None:
    pool = pool_of(maker, size=1, max_overflow=0, timeout=3600)
    held = await pool.acquire()
    early, late, waits = start(pool, 3)
    await settle()
    early.cancel()
    pool.release(held)  # goes to `late`, which gives up before it learns of it
    late.cancel()
    await settle()
    assert (await waits).connection == held.connection
    assert (maker.made, pool.in_use) == (1, 1)


async def test_a_connection_that_the_server_closed_is_not_used_again(maker: Maker) -> None:
    pool = pool_of(maker)
    pool.release(await pool.acquire())
    maker.unusable.add(1)
    assert ((await pool.acquire()).connection, maker.closed) == (2, [1])


async def test_a_connection_is_replaced_when_it_is_too_old(maker: Maker, clock: Clock) -> None:
    pool = pool_of(maker, recycle=240.0, ping_after=3600.0)
    pool.release(await pool.acquire())
    clock.now += 239
    pool.release(await pool.acquire())
    clock.now += 2
    assert ((await pool.acquire()).connection, maker.closed) == (2, [1])


async def test_a_connection_that_was_idle_for_long_is_pinged(maker: Maker, clock: Clock) -> None:
    pool = pool_of(maker, ping_after=30.0)
    pool.release(await pool.acquire())
    clock.now += 29
    pool.release(await pool.acquire())
    assert maker.pinged == []
    clock.now += 31
    pool.release(await pool.acquire())
    assert maker.pinged == [1]


async def test_one_connection_that_does_not_answer_a_ping_makes_all_that_are_as_old_distrusted(
    maker: Maker, clock: Clock
) -> None:
    pool = pool_of(maker, ping_after=30.0)
    for each in await several(pool, 5):
        pool.release(each)
    clock.now += 31
    maker.silent |= {1, 2, 3, 4, 5}
    assert (await pool.acquire()).connection == 6
    assert (maker.pinged, sorted(maker.closed)) == ([5], [1, 2, 3, 4, 5])


async def test_an_idle_connection_is_pinged_while_a_statement_is_stalled(maker: Maker, clock: Clock) -> None:
    pool = pool_of(maker, ping_after=30.0)
    stalled, idle = await several(pool, 2)
    pool.release(idle)
    clock.now += 2
    maker.silent |= {1, 2}
    assert (await pool.acquire()).connection == 3
    pool.release(stalled)
    assert maker.closed == [2, 1]


async def lent(pool: Pool[int], count: int) -> list[Pooled[int]]:
    """Start as many callers and return the connections of those that got one."""
    tasks = start(pool, count)
    await settle()
    return [task.result() for task in tasks if task.done()]


def stall(pool: Pool[int], clock: Clock) -> None:
    """Let time pass in which no connection comes back."""
    clock.now += 1.5
    pool._on_stall()  # the loop has a clock of its own


async def test_when_every_connection_is_stalled_a_single_further_one_is_opened(maker: Maker, clock: Clock) -> None:
    pool = pool_of(maker, size=2, max_overflow=1, timeout=3600)
    assert len(await lent(pool, 10)) == 3
    for made in (4, 5, 6, 6):  # each further one stalls as well, until the limit is doubled
        stall(pool, clock)
        await settle()
        assert maker.made == made


async def test_when_a_statement_succeeds_beside_stalled_ones_each_of_those_is_replaced(
    maker: Maker, clock: Clock
) -> None:
    pool = pool_of(maker, size=2, max_overflow=1, timeout=3600)
    waiting = start(pool, 20)
    await settle()
    stall(pool, clock)
    await settle()
    [further] = [task.result() for task in waiting if task.done() and task.result().connection == 4]
    pool.release(further)
    await settle()
    assert (maker.made, pool.in_use) == (6, 6)


async def test_slow_statements_open_no_further_connections_while_others_are_in_use(maker: Maker, clock: Clock) -> None:
    pool = pool_of(maker, size=2, max_overflow=0, timeout=3600)
    first, second = await several(pool, 2)
    pool.release(second)
    clock.now += 0.7
    second = await pool.acquire()
    waiting = start(pool, 4)
    await settle()
    clock.now += 0.7
    pool._on_stall()  # the first is stalled, the second is not yet
    await settle()
    pool.release(first)
    clock.now += 0.7
    pool._on_stall()  # the second is stalled, the first is not
    await settle()
    assert maker.made == 2
    for task in waiting:
        task.cancel()


async def test_further_connections_are_closed_when_the_stalled_ones_come_back(maker: Maker, clock: Clock) -> None:
    pool = pool_of(maker, size=2, max_overflow=0, timeout=3600)
    held = await several(pool, 2)
    [waiting] = start(pool)
    await settle()
    stall(pool, clock)
    for each in [*held, await waiting]:
        pool.release(each)
    assert (maker.made, maker.closed) == (3, [3])


async def test_a_connect_that_takes_long_makes_room_for_another(maker: Maker, clock: Clock) -> None:
    pool = pool_of(maker, size=1, max_overflow=0, timeout=3600)
    maker.slow = True
    [waiting] = start(pool)
    await settle()
    maker.slow = False
    pool._connect_for_waiting()
    await settle()
    assert not waiting.done()
    clock.now += 2.5
    pool._connect_for_waiting()
    assert (await waiting).connection == 1
    pool.close()


async def test_slow_connects_that_succeed_together_do_not_exceed_the_limit(maker: Maker, clock: Clock) -> None:
    pool = pool_of(maker, size=1, max_overflow=0, timeout=3600)
    maker.answers = answers = asyncio.Event()
    waiting = start(pool, 2)
    for _ in range(2):
        await settle()
        clock.now += 2.5
        pool._connect_for_waiting()
    await settle()
    answers.set()
    await settle()
    assert (maker.made, pool.in_use, maker.closed) == (2, 1, [2])
    for task in waiting:
        task.cancel()


async def test_distrust_concerns_connections_that_were_made_before_and_no_others(maker: Maker) -> None:
    pool = pool_of(maker)
    old, idle = await several(pool, 2)
    pool.release(idle)
    pool.distrust()
    fresh = await pool.acquire()
    pool.release(old)
    pool.release(fresh)
    assert (maker.closed, (await pool.acquire()).connection) == ([2, 1], 3)


async def test_a_wall_clock_that_steps_changes_nothing(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(maker)
    for each in await several(pool, 2):
        pool.release(each)
    pool.distrust()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    for _ in range(10):
        pool.release(await pool.acquire())
    assert maker.made == 3


async def test_a_closed_pool_closes_everything_and_lends_nothing(maker: Maker) -> None:
    pool = pool_of(maker, size=2, max_overflow=0, timeout=3600)
    held, idle = await several(pool, 2)
    pool.release(idle)
    busy = await pool.acquire()
    [waiting] = start(pool)
    await settle()
    assert set(pool.close()) == {held, busy}
    with pytest.raises(PoolTimeout):
        await waiting
    with pytest.raises(PoolTimeout):
        await pool.acquire()
    pool.release(held)
    pool.release(busy)
    assert sorted(maker.closed) == [1, 2]


async def test_a_connect_that_is_under_way_when_the_pool_is_closed_leaves_nothing_open(maker: Maker) -> None:
    pool = pool_of(maker)
    [waiting] = start(pool)
    await asyncio.sleep(0)  # it connects, and has not been told so
    pool.close()
    with pytest.raises(PoolTimeout):
        await waiting
    await settle()
    assert len(maker.closed) == maker.made


async def test_a_failed_connect_does_not_fail_callers_who_came_after_it_had_begun(maker: Maker, clock: Clock) -> None:
    pool = pool_of(maker, size=1, max_overflow=0)
    maker.fails_later = fails = asyncio.get_running_loop().create_future()
    [first] = start(pool)
    await settle()
    clock.now += 0.01
    others = start(pool, 3)
    await settle()
    fails.set_result(None)
    with pytest.raises(psycopg.OperationalError):
        await first
    for each in others:
        pool.release(await each)


async def test_connections_that_were_idle_for_a_minute_are_closed_while_others_are_used(
    maker: Maker, clock: Clock
) -> None:
    pool = pool_of(maker, size=5, max_overflow=0)
    for pooled in await several(pool, 4):
        pool.release(pooled)
    for _ in range(3):
        clock.now += 25
        [first, second] = await several(pool, 2)
        assert maker.closed == []
        pool.release(first)
        pool.release(second)
    assert len(maker.closed) == 2
    assert pool.counts.closed["surplus"] == 2
    clock.now += 1000  # nothing is used: the last connections are kept
    assert pool.open == 2
