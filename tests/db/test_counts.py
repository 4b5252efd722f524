"""What the engine and the pool count for the metrics, and how long a batch is in which phase."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import text

from service.call_record import BatchRecord, CallRecord, current_batch
from service.db.compiled_statement import CompiledStatement
from service.db.driver_errors import Failure
from service.db.engine import Database
from service.db.pool import Pool, PoolSettings, PoolTimeout
from service.db.url import parse_database_url
from service.errors import DatabaseUnavailable
from tests.proxy import Proxy, proxied
from tests.waiting import eventually


class Observed:
    """Records what the engine reports."""

    def __init__(self) -> None:
        self.waits: list[tuple[str, float]] = []
        self.statements: list[tuple[str, float]] = []

    def on_connection_wait(self, operation: str, seconds: float) -> None:
        self.waits.append((operation, seconds))

    def on_statement(self, operation: str, seconds: float) -> None:
        self.statements.append((operation, seconds))


class Connector:
    """Makes connections that are numbers, or fails."""

    def __init__(self) -> None:
        self.made = 0
        self.failure: Exception | None = None
        self.unusable = False

    async def connect(self) -> int:
        if self.failure:
            raise self.failure
        self.made += 1
        return self.made

    def is_usable(self, connection: int) -> bool:  # noqa: ARG002
        return not self.unusable

    async def ping(self, connection: int) -> None: ...

    def close(self, connection: int) -> None: ...


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
def proxy(postgresql_url: str) -> Iterator[Proxy]:
    with proxied(postgresql_url) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def distant(proxy: Proxy, observed: Observed) -> AsyncIterator[Database]:
    """A database with one connection, behind a proxy."""
    database = Database(parse_database_url(proxy.conninfo), PoolSettings(size=1, max_overflow=0), observed)
    yield database
    await database.close(grace=0)


def statement(database: Database, words: str) -> CompiledStatement:
    return CompiledStatement(text(words), database.dialect)


async def read(database: Database, words: str = "SELECT 1") -> Any:
    return await database.read(statement(database, words), {})


def is_up(database: Database) -> bool:
    return database.pool.is_database_up


async def test_the_database_is_down_while_it_refuses_connections_and_up_after_the_next(
    distant: Database, proxy: Proxy
) -> None:
    assert is_up(distant)
    proxy.refuse()
    with pytest.raises(DatabaseUnavailable):
        await read(distant)
    assert not is_up(distant)
    assert distant.pool.counts.connect_failures >= 1
    proxy.accept()
    await read(distant)
    assert is_up(distant)
    assert distant.pool.counts.opened == 1


async def test_the_database_is_down_when_a_connection_breaks_under_a_statement(distant: Database, proxy: Proxy) -> None:
    running = asyncio.ensure_future(
        distant.write(statement(distant, "SELECT pg_sleep(3600)"), parameters={}, repeatable=False)
    )
    await eventually(lambda: distant.pool.in_use == 1)
    proxy.cut()
    await asyncio.wait([running])
    assert isinstance(running.exception(), Exception)
    assert not is_up(distant)
    assert distant.pool.counts.closed["lost"] == 1


async def test_the_database_is_down_when_it_is_silent_and_up_when_a_statement_is_only_slow(
    distant: Database, proxy: Proxy
) -> None:
    await read(distant)
    for is_silent in (False, True):
        running = asyncio.ensure_future(read(distant, "SELECT pg_sleep(3600)"))
        await eventually(lambda: distant.pool.in_use == 1)
        if is_silent:
            proxy.freeze()
        running.cancel()
        await eventually(lambda: distant.pool.in_use == 0)
        assert is_up(distant) is not is_silent
        assert distant.cancelled == 1 + is_silent
    await read(distant)
    assert is_up(distant)


async def test_a_statement_that_is_run_again_is_counted_by_cause(distant: Database, proxy: Proxy) -> None:
    await read(distant)
    proxy.lose_peers()
    await read(distant)
    assert distant.retries == {**dict.fromkeys(distant.retries, 0), Failure.LOST: 1}


async def test_wait_and_statement_are_reported_by_the_operation_of_their_batch(
    distant: Database, observed: Observed
) -> None:
    await read(distant)
    batch = BatchRecord(0.0, "list")
    current_batch.set(batch)
    await read(distant, "SELECT pg_sleep(0.05)")
    assert [operation for operation, _ in observed.waits] == ["other", "list"]
    assert [operation for operation, _ in observed.statements] == ["other", "list"]
    assert observed.statements[1][1] >= 0.05 > observed.waits[1][1]
    assert batch.phase is None
    assert batch.statement_seconds == pytest.approx(observed.statements[1][1])
    assert batch.connection_seconds == pytest.approx(observed.waits[1][1])


async def test_the_record_of_a_call_tells_the_phase_of_its_batch(distant: Database, observed: Observed) -> None:
    call, batch = CallRecord("1", "grpc", 0.0), BatchRecord(0.0, "get")
    call.leave_queue(0.0, batch)
    await read(distant)
    async with distant.connection():
        current_batch.set(batch)
        running = asyncio.ensure_future(read(distant, "SELECT pg_sleep(3600)"))
        await eventually(lambda: call.phase == "connection")
    await eventually(lambda: call.phase == "statement")
    running.cancel()
    await eventually(lambda: call.phase is None)
    assert observed.waits[-1][0] == "get"


async def test_a_wait_for_a_connection_that_fails_is_reported_too(distant: Database, observed: Observed) -> None:
    async with distant.connection():
        running = asyncio.ensure_future(read(distant))
        await eventually(lambda: distant.pool.counts.waits == 2)
        running.cancel()
        await asyncio.wait([running])
    assert len(observed.waits) == 1
    assert not observed.statements


async def test_a_write_to_sqlite_waits_for_the_one_before_it(sqlite_url: str, observed: Observed) -> None:
    database = Database(parse_database_url(sqlite_url), observer=observed)
    nothing = statement(database, "DELETE FROM tasks WHERE user_id = 'nobody'")
    # A function of SQLite that takes a while would keep its thread busy: the writer's lock is held instead.
    assert database._writer
    async with database._writer:
        current_batch.set(batch := BatchRecord(0.0, "delete"))
        running = asyncio.ensure_future(database.write(nothing, parameters={}, repeatable=True))
        await eventually(lambda: batch.phase == "connection")
        await asyncio.sleep(0.02)
    await running
    [(operation, seconds)] = observed.waits
    assert operation == "delete"
    assert seconds >= 0.02
    await database.close()


async def test_a_sqlite_file_that_is_gone_is_a_database_that_is_down(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    path.touch()
    database = Database(parse_database_url(f"sqlite:///{path}"))
    await read(database)
    path.rename(tmp_path / "moved.db")
    with pytest.raises(DatabaseUnavailable):
        await read(database)
    assert not is_up(database)
    await database.close()


async def test_connections_that_are_closed_are_counted_by_cause() -> None:
    connector = Connector()
    pool = Pool(connector, PoolSettings(size=1, max_overflow=1))
    pool.release(broken := await pool.acquire())
    assert pool.counts.opened == pool.counts.waits == pool.open == 1
    first, second = await pool.acquire(), await pool.acquire()
    pool.release(first)
    pool.release(second)
    expected = {"age": 0, "lost": 0, "surplus": 1, "shutdown": 0}
    assert pool.counts.closed == expected
    broken = await pool.acquire()
    broken.is_broken = True
    pool.release(broken)
    expected["lost"] += 1
    assert pool.counts.closed == expected
    pool.release(await pool.acquire())
    connector.unusable = True
    await pool.acquire()
    expected["lost"] += 1
    assert pool.counts.closed == expected
    connector.unusable = False
    old = await pool.acquire()
    old.born -= 1000
    pool.release(old)
    expected["age"] += 1
    assert pool.counts.closed == expected
    [left] = pool.close()
    pool.release(left)
    expected["shutdown"] += 1
    assert pool.counts.closed == expected
    assert pool.counts.opened == sum(expected.values())


async def test_a_caller_that_gets_no_connection_in_time_is_counted() -> None:
    pool = Pool(Connector(), PoolSettings(size=1, max_overflow=0, timeout=0.01))
    await pool.acquire()
    with pytest.raises(PoolTimeout):
        await pool.acquire()
    assert (pool.counts.waits, pool.counts.timeouts) == (2, 1)


async def test_a_failed_attempt_to_connect_is_counted() -> None:
    connector = Connector()
    connector.failure = psycopg.OperationalError("refused")
    pool = Pool(connector, PoolSettings())
    with pytest.raises(psycopg.OperationalError):
        await pool.acquire()
    assert pool.counts.connect_failures >= 1
    assert not pool.is_database_up
