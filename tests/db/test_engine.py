"""What the engine does with connections on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import text

from service.db.compiled_statement import CompiledStatement
from service.db.engine import Database, PoolSettings, fetch
from service.db.store import SqlTaskStore
from service.db.url import parse_database_url
from service.errors import DatabaseUnavailable
from tests.db.making import new_task
from tests.proxy import proxied

PREPARED = "SELECT count(*) FROM pg_prepared_statements"


@pytest_asyncio.fixture
async def single(postgresql_url: str) -> AsyncIterator[Database]:
    """A database with one connection."""
    database = Database(parse_database_url(postgresql_url), PoolSettings(size=1, max_overflow=0))
    yield database
    await database.close()


def statement(database: Database, words: str) -> CompiledStatement:
    return CompiledStatement(text(words), database.dialect)


async def prepared(database: Database) -> int:
    [(count,)] = await database.read(statement(database, PREPARED), {})
    return int(count)


async def command(database: Database, words: str) -> None:
    async with database._connection() as connection:
        await fetch(connection, words)


async def test_statements_that_come_often_are_prepared(single: Database) -> None:
    store, task = SqlTaskStore(single), new_task()
    for _ in range(10):
        await store.get([task.key])
    assert await prepared(single) == 1


async def test_a_pooler_that_forgets_prepared_statements_is_coped_with(single: Database) -> None:
    store, task = SqlTaskStore(single), new_task()
    made = await store.create([task])
    for _ in range(10):
        await store.get([task.key])
    # What a pooler in transaction mode amounts to: our statements meet a session that was never told of them.
    # In a block, so that the driver does not notice.
    await command(single, "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
    assert made == await store.get([task.key])
    for _ in range(10):
        assert made == await store.get([task.key])
    assert await prepared(single) == 0


async def test_a_type_changed_under_a_prepared_statement_is_coped_with(single: Database) -> None:
    store, task = SqlTaskStore(single), new_task()
    made = await store.create([task])
    for _ in range(10):
        await store.get([task.key])
    for kind in ("varchar(300)", "text"):
        await command(single, f"ALTER TABLE tasks ALTER title TYPE {kind}")
        for _ in range(10):
            assert made == await store.get([task.key])


async def test_a_connection_that_lay_idle_for_long_is_asked_for_a_sign_of_life(postgresql_url: str) -> None:
    for ping_after, pings in ((3600.0, 0), (0.0, 1)):
        database = Database(parse_database_url(postgresql_url), PoolSettings(size=1, ping_after=ping_after))
        seen: list[object] = []
        await database.read(statement(database, "SELECT 1"), {})
        database.dialect.do_ping = lambda connection, seen=seen: seen.append(connection) or True  # type: ignore[method-assign,misc]
        await database.read(statement(database, "SELECT 1"), {})
        assert pings == len(seen)
        await database.close()


async def test_a_statement_that_stands_alone_is_its_own_transaction(single: Database) -> None:
    store, task = SqlTaskStore(single), new_task()
    await store.create([task])
    async with single._connection() as connection:
        assert isinstance(connection, psycopg.AsyncConnection)
        assert connection.autocommit
        assert connection.info.transaction_status.name == "IDLE"


async def test_a_statement_that_takes_too_long_is_given_up_and_its_connection_is_not_lost(postgresql_url: str) -> None:
    pool = PoolSettings(size=1, max_overflow=0, statement_timeout=0.2)
    database = Database(parse_database_url(postgresql_url), pool)
    with pytest.raises(DatabaseUnavailable):
        await database.write(statement(database, "SELECT pg_sleep(60)"), parameters={}, repeatable=False)
    assert list(await database.read(statement(database, "SELECT 1"), {})) == [(1,)]
    await database.close()


async def test_after_one_lost_connection_no_other_of_its_age_is_used(postgresql_url: str) -> None:
    async def ask_on_each_connection(database: Database) -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(60):
            for connection in [await stack.enter_async_context(database._connection()) for _ in range(3)]:
                assert list(await fetch(connection, "SELECT 1")) == [(1,)]

    with proxied(postgresql_url) as proxy:
        database = Database(parse_database_url(proxy.conninfo), PoolSettings(size=3, max_overflow=0))
        await ask_on_each_connection(database)
        proxy.lose_peers()
        # The statement that met the broken connection is run again on a new one.
        assert list(await database.read(statement(database, "SELECT 1"), {})) == [(1,)]
        # Two connections of the pool are half dead, with nothing on them that poll(2) could see.
        await ask_on_each_connection(database)
        await database.close()
