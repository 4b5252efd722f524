"""The engine's handling of statements and connections on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Literal
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import make_conninfo
from sqlalchemy import text

from service.db import engine
from service.db.compiled_statement import CompiledStatement
from service.db.driver_errors import Failure, StatementFault, failure_of
from service.db.engine import Database
from service.db.pool import PoolSettings
from service.db.url import parse_database_url
from service.errors import DatabaseUnavailable
from tests import messages
from tests.db.making import new_task
from tests.distribution import store_of
from tests.messages import Rule
from tests.proxy import Proxy, proxied
from tests.waiting import eventually

PREPARED = "SELECT count(*) FROM pg_prepared_statements"


@pytest_asyncio.fixture
async def single(postgresql_url: str) -> AsyncIterator[Database]:
    """A database with one connection."""
    database = Database(parse_database_url(postgresql_url), PoolSettings(size=1, max_overflow=0))
    yield database
    await database.close()


@pytest.fixture
def proxy(postgresql_url: str) -> Iterator[Proxy]:
    with proxied(postgresql_url) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def distant(proxy: Proxy) -> AsyncIterator[Database]:
    """A database behind a proxy, which is asked for a sign of life at every opportunity."""
    database = Database(parse_database_url(proxy.conninfo), PoolSettings(ping_after=0.0))
    yield database
    await database.close(grace=0)


def statement(database: Database, words: str) -> CompiledStatement:
    return CompiledStatement(text(words), database.dialect)


async def prepared(database: Database) -> int:
    [(count,)] = await database.read(statement(database, PREPARED), {})
    return int(count)


async def command(database: Database, words: str) -> None:
    async with database.connection() as connection:
        await database.fetch(connection, words)


async def test_statements_that_come_often_are_prepared(single: Database) -> None:
    store, task = store_of(single), new_task()
    for _ in range(10):
        await store.get([task.key])
    assert await prepared(single) == 1


async def test_a_pooler_that_forgets_prepared_statements_is_coped_with(single: Database) -> None:
    store, task = store_of(single), new_task()
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


@pytest.mark.parametrize(("prepare", "statements"), [("auto", 0), ("always", 1)])
async def test_statements_are_not_prepared_behind_a_pooler_unless_it_is_told_to(
    proxy: Proxy, prepare: Literal["auto", "always"], statements: int
) -> None:
    # A pooler that shares sessions gives its clients keys for cancelling of its own, and process ids with them.
    proxy.apply(Rule((b"K",), lambda _link, data: data[:5] + b"\0\0\0\1" + data[9:], from_server=True, times=9))
    pool = PoolSettings(size=1, max_overflow=0, prepare=prepare)
    database = Database(parse_database_url(proxy.conninfo), pool)
    store = store_of(database)
    for _ in range(10):
        await store.get([new_task().key])
    assert await prepared(database) == statements
    await database.close()


async def test_a_type_changed_under_a_prepared_statement_is_coped_with(single: Database) -> None:
    store, task = store_of(single), new_task()
    made = await store.create([task])
    for _ in range(10):
        await store.get([task.key])
    for kind in ("varchar(300)", "text"):
        await command(single, f"ALTER TABLE tasks ALTER title TYPE {kind}")
        for _ in range(10):
            assert made == await store.get([task.key])


async def test_a_statement_that_stands_alone_is_its_own_transaction(single: Database) -> None:
    store, task = store_of(single), new_task()
    await store.create([task])
    async with single.connection() as connection:
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
            for connection in [await stack.enter_async_context(database.connection()) for _ in range(3)]:
                assert list(await database.fetch(connection, "SELECT 1")) == [(1,)]

    with proxied(postgresql_url) as proxy:
        database = Database(parse_database_url(proxy.conninfo), PoolSettings(size=3, max_overflow=0))
        await ask_on_each_connection(database)
        proxy.lose_peers()
        # The statement that met the broken connection is run again on a new one.
        assert list(await database.read(statement(database, "SELECT 1"), {})) == [(1,)]
        # Two connections of the pool are half dead, with nothing on them that poll(2) could see.
        await ask_on_each_connection(database)
        await database.close()


async def backend(database: Database) -> int:
    """The process of the server that answers."""
    [(pid,)] = await database.read(statement(database, "SELECT pg_backend_pid()"), {})
    return int(pid)


async def test_a_database_that_hangs_with_its_connections_open_is_left_for_new_ones(
    distant: Database, proxy: Proxy
) -> None:
    one = statement(distant, "SELECT 1")
    await asyncio.gather(*(distant.read(one, {}) for _ in range(10)))
    for _ in range(3):
        proxy.freeze()
        assert await asyncio.gather(*(distant.read(one, {}) for _ in range(10))) == [((1,),)] * 10
    assert distant.connections_in_use() == 0


async def test_new_connections_are_opened_when_all_are_silent_within_statements(proxy: Proxy) -> None:
    pool = PoolSettings(size=3, max_overflow=0, timeout=3600)
    database = Database(parse_database_url(proxy.conninfo), pool)
    one = statement(database, "SELECT 1 FROM (SELECT :n) AS n")
    proxy.apply(rule := Rule((b"B",), messages.silence, times=3))
    hung = [asyncio.ensure_future(database.read(one, {"n": 1})) for _ in range(3)]
    await eventually(lambda: rule.done == 3)
    assert await asyncio.gather(*(database.read(one, {"n": 0}) for _ in range(20))) == [((1,),)] * 20
    assert not any(call.done() for call in hung)
    await database.close(grace=0)
    await asyncio.wait(hung)


async def test_a_statement_that_nobody_waits_for_is_cancelled_and_its_connection_is_kept(single: Database) -> None:
    pid = await backend(single)
    for call in (
        single.read(statement(single, "SELECT pg_sleep(3600)"), {}),
        single.write(statement(single, "SELECT pg_sleep(3600)"), parameters={}, repeatable=True),
    ):
        running = asyncio.ensure_future(call)
        await eventually(lambda: single.connections_in_use() == 1)
        running.cancel()
        await eventually(lambda: single.connections_in_use() == 0)
        assert await backend(single) == pid
        assert running.cancelled()


async def test_a_write_that_nobody_waits_for_is_over_when_its_caller_learns_of_it(single: Database) -> None:
    running = asyncio.ensure_future(
        single.write(statement(single, "SELECT pg_sleep(3600)"), parameters={}, repeatable=True)
    )
    await eventually(lambda: single.connections_in_use() == 1)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert single.connections_in_use() == 0


async def test_a_statement_on_a_silent_connection_that_nobody_waits_for_costs_the_connection(
    distant: Database, proxy: Proxy
) -> None:
    await distant.read(statement(distant, "SELECT 1"), {})
    slow = asyncio.ensure_future(distant.read(statement(distant, "SELECT pg_sleep(3600)"), {}))
    await eventually(lambda: distant.connections_in_use() == 1)
    proxy.freeze()
    slow.cancel()
    await eventually(lambda: not distant.connections_in_use())
    assert list(await distant.read(statement(distant, "SELECT 1"), {})) == [(1,)]


async def test_a_statement_that_takes_too_long_on_a_silent_connection_is_given_up(proxy: Proxy) -> None:
    pool = PoolSettings(size=1, max_overflow=0, statement_timeout=0.2)
    database = Database(parse_database_url(proxy.conninfo), pool)
    await database.read(statement(database, "SELECT 1"), {})
    proxy.freeze()
    with pytest.raises(DatabaseUnavailable):
        await database.read(statement(database, "SELECT 1"), {})
    assert list(await database.read(statement(database, "SELECT 1"), {})) == [(1,)]
    await database.close()


async def test_a_database_that_answers_nothing_does_not_hold_up_the_end(proxy: Proxy) -> None:
    database = Database(parse_database_url(proxy.conninfo), PoolSettings(timeout=3600))
    one = statement(database, "SELECT 1")
    await database.read(one, {})
    proxy.hold()
    # One has a connection, the others wait for one.
    calls = [asyncio.ensure_future(database.read(one, {})) for _ in range(30)]
    await eventually(lambda: database.connections_in_use() == 1)
    await asyncio.wait_for(database.close(grace=0), 30)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 30


async def test_whatever_happens_while_the_database_comes_and_goes_is_unavailable(
    distant: Database, proxy: Proxy
) -> None:
    one = statement(distant, "SELECT 1")
    outcomes: list[object] = []
    for _ in range(30):
        calls = [asyncio.ensure_future(distant.read(one, {})) for _ in range(20)]
        await asyncio.sleep(0.001)
        proxy.cut()
        await asyncio.sleep(0.001)
        proxy.refuse()
        calls += [asyncio.ensure_future(distant.read(one, {})) for _ in range(20)]
        await asyncio.sleep(0.001)
        proxy.accept()
        outcomes += await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, (DatabaseUnavailable, tuple)) for outcome in outcomes)
    assert list(await distant.read(one, {})) == [(1,)]


async def test_a_role_that_may_have_few_connections_is_served_with_these(postgresql_url: str) -> None:
    role = f"role_{uuid4().hex}"
    with psycopg.connect(postgresql_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 3")
        database = Database(parse_database_url(make_conninfo(postgresql_url, user=role)))
        slow = statement(database, "SELECT pg_sleep(0.01)")
        try:
            await asyncio.gather(*(database.read(slow, {}) for _ in range(60)))
        finally:
            await database.close()
            admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [role])
            admin.execute(f"DROP ROLE {role}")


async def test_conflicts_are_repeated_until_there_are_none(postgresql_url: str) -> None:
    table = f"counter_{uuid4().hex}"
    serializable = make_conninfo(postgresql_url, options="-c default_transaction_isolation=serializable")
    with psycopg.connect(postgresql_url, autocommit=True) as admin:
        admin.execute(f"CREATE TABLE {table} AS SELECT 0 AS value")
        database = Database(parse_database_url(serializable))
        add = statement(database, f"UPDATE {table} SET value = value + 1")
        try:
            await asyncio.gather(*(database.write(add, parameters={}, repeatable=False) for _ in range(6)))
            assert admin.execute(f"SELECT value FROM {table}").fetchall() == [(6,)]
        finally:
            await database.close()
            admin.execute(f"DROP TABLE {table}")


async def test_what_the_database_cannot_do_is_a_fault_at_once(single: Database) -> None:
    pid = await backend(single)
    with pytest.raises(StatementFault, match="FeatureNotSupported"):
        await single.read(statement(single, "SELECT count(*) FROM tasks FOR UPDATE"), {})
    assert await backend(single) == pid


async def test_a_plan_that_is_stale_twice_is_a_fault(single: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = 0

    def stale(*_: object, **__: object) -> Failure:
        nonlocal attempts
        attempts += 1
        return Failure.STALE_PLAN

    monkeypatch.setattr(engine, "failure_of", stale)
    with pytest.raises(StatementFault, match="FeatureNotSupported"):
        await single.read(statement(single, "SELECT count(*) FROM tasks FOR UPDATE"), {})
    assert attempts == 2


@pytest.mark.parametrize(
    ("state", "routine", "failure"),
    [
        ("0A000", "RevalidateCachedQuery", Failure.STALE_PLAN),
        ("0A000", "DistributedPlanError", Failure.FAULT),
        ("XX000", "MarkRemoteTransactionFailed", Failure.UNAVAILABLE),
        ("XX000", "elog_finish", Failure.FAULT),
        ("08006", "ReportConnectionError", Failure.UNAVAILABLE),
        ("57P01", "ReportResultError", Failure.UNAVAILABLE),
    ],
)
def test_errors_with_many_meanings_are_told_apart_by_the_servers_function(
    state: str, routine: str, failure: Failure
) -> None:
    class Raised(psycopg.errors.lookup(state)):  # type: ignore[misc]
        diag = SimpleNamespace(source_function=routine, severity_nonlocalized="ERROR")

    assert failure_of(Raised()) is failure


def test_an_error_that_ends_the_session_is_a_lost_connection() -> None:
    class Raised(psycopg.errors.AdminShutdown):
        diag = SimpleNamespace(source_function="ProcessInterrupts", severity_nonlocalized="FATAL")  # type: ignore[assignment]

    assert failure_of(Raised()) is Failure.LOST
