"""Connections: how they are made, kept, checked and repeated on; and where the drivers' exceptions end."""

import asyncio
import select
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import aiosqlite
import psycopg
from sqlalchemy import URL, AsyncAdaptedQueuePool, Dialect, event
from sqlalchemy.exc import DBAPIError, DisconnectionError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service.db.compiled_statement import CompiledStatement, Parameters, Row
from service.db.driver_errors import (
    DRIVER_ERRORS,
    PREPARED_STATEMENT_SQLSTATES,
    Failed,
    Failure,
    failure_of,
    sqlstate_of,
)
from service.db.url import DatabaseUrl, PostgresServer, SqliteFile
from service.errors import DatabaseUnavailable

Rows = Sequence[Row]
Connection = psycopg.AsyncConnection[Any] | aiosqlite.Connection

# How often a statement is run, at most, after conflicts or lost connections and where that is safe.
_ATTEMPTS = 3


# What makes SQLite a database for a service. The busy timeout comes first: the others may have to wait as well.
SQLITE_PRAGMAS = (
    "busy_timeout = 5000",  # ms; for other programs, our own writers queue
    "journal_mode = WAL",  # readers beside the writer
    "synchronous = FULL",  # a commit is on the disk when it is answered
    "foreign_keys = ON",
)


class ForeignKeyBroken(Exception):
    """A row refers to one that does not exist. For the store; never leaves it."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How many connections are kept and for how long; times in seconds."""

    size: int = 10
    max_overflow: int = 5
    timeout: float = 10.0
    """How long a request waits for a connection before it is UNAVAILABLE."""
    recycle: float = 240.0
    """The age at which a connection is replaced: below the five minutes after which Neon suspends an idle compute."""
    ping_after: float = 30.0
    """How long a connection may lie idle before it is asked for a sign of life."""
    prepare: bool = True
    """Whether statements are prepared on the server."""
    statement_timeout: float = 35.0
    """How long a statement may run, whether or not its caller still waits."""


class Database:
    """Runs statements. Raises DatabaseUnavailable where the database cannot be reached, ForeignKeyBroken, or a fault.

    A statement that stands alone is its own transaction: one round trip, no BEGIN and no COMMIT. The connections are
    those of an SQLAlchemy engine and its pool; the statements go straight to the driver.
    """

    def __init__(self, url: DatabaseUrl, pool: PoolSettings | None = None) -> None:
        pool = pool or PoolSettings()
        self._prepares = pool.prepare
        self._statement_timeout = pool.statement_timeout
        self._engine = (
            self._postgres_engine(url, pool) if isinstance(url, PostgresServer) else _sqlite_engine(url, pool)
        )
        # SQLite takes one writer at a time: ours wait here, in order, and not in its busy loop.
        self._writer = asyncio.Lock() if isinstance(url, SqliteFile) else None
        self._running: set[asyncio.Task[Rows]] = set()
        self._distrusts = False
        if isinstance(url, PostgresServer):
            self._check_connections(pool.ping_after)

    @property
    def dialect(self) -> Dialect:
        return self._engine.dialect

    def connections_in_use(self) -> int:
        """How many connections run a statement at the moment."""
        pool = self._engine.pool
        assert isinstance(pool, AsyncAdaptedQueuePool)
        return pool.checkedout()

    async def read(self, statement: CompiledStatement, parameters: Parameters) -> Rows:
        """Run a statement that only reads; it is run again when a connection is lost."""
        return await self._run_again_if_safe((statement,), parameters, repeatable=True)

    async def write(self, *statements: CompiledStatement, parameters: Parameters, repeatable: bool) -> Rows:
        """Run statements that write, several of them in one transaction, and answer the rows of the last.

        They are durable when this returns. `repeatable` says that they come to the same if they are run again after
        they took effect and nobody learnt of it, as may be when a connection is lost.
        """
        return await self._run_again_if_safe(statements, parameters, repeatable=repeatable, writes=True)

    async def close(self, grace: float = 10.0) -> None:
        """Let what is running end, for `grace` seconds at most, then close every connection."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        await self._engine.dispose()

    async def _run_again_if_safe(
        self, statements: Sequence[CompiledStatement], parameters: Parameters, *, repeatable: bool, writes: bool = False
    ) -> Rows:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._run(statements, parameters, writes=writes)
            except (PoolTimeoutError, OSError) as error:
                raise DatabaseUnavailable from error
            except Failed as failed:
                failure, cause = failed.failure, failed.__cause__
                is_safe = failure in {Failure.NOT_DONE, Failure.CONFLICT} or (failure is Failure.LOST and repeatable)
                if is_safe and attempt < _ATTEMPTS:
                    continue
                if failure is Failure.FAULT and cause:
                    raise cause  # noqa: B904 - the cause itself
                raise (ForeignKeyBroken if failure is Failure.FOREIGN_KEY else DatabaseUnavailable) from cause
        raise AssertionError("the last attempt returns or raises")

    async def _run(self, statements: Sequence[CompiledStatement], parameters: Parameters, *, writes: bool) -> Rows:
        # In a task of its own, which a caller that gives up does not break off: that would cost the connection, and the
        # outcome of its statement would be unknown. What was not begun by then is not begun at all.
        wanted = asyncio.Event()
        wanted.set()
        task = asyncio.create_task(self._run_if(wanted, statements, parameters, writes=writes))
        self._running.add(task)
        task.add_done_callback(self._forget)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            wanted.clear()
            raise

    async def _run_if(
        self, wanted: asyncio.Event, statements: Sequence[CompiledStatement], parameters: Parameters, *, writes: bool
    ) -> Rows:
        async with self._writer if writes and self._writer else nullcontext():
            if not wanted.is_set():
                return []
            async with self._connection() as connection:
                if not wanted.is_set():
                    return []
                async with asyncio.timeout(self._statement_timeout):
                    return await _execute(connection, statements, parameters)

    def _forget(self, task: asyncio.Task[Rows]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain where the caller was gone

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool for the length of the block, in which Failed stands for the driver's errors."""
        try:
            connection = await self._engine.connect()
        except DBAPIError as error:
            raise Failed(failure_of(error.orig)) from error.orig  # type: ignore[arg-type]  # the driver's own error
        try:
            assert connection.sync_connection
            driver_connection: Any = connection.sync_connection.connection.driver_connection
            try:
                yield driver_connection
            except DRIVER_ERRORS as error:
                failure = failure_of(error, lost=getattr(driver_connection, "closed", False))
                if failure in {Failure.LOST, Failure.NOT_DONE}:
                    self._prepares &= sqlstate_of(error) not in PREPARED_STATEMENT_SQLSTATES
                    self._distrusts = True
                    await connection.invalidate(error)
                raise Failed(failure) from error
        finally:
            await connection.close()

    def _postgres_engine(self, url: PostgresServer, pool: PoolSettings) -> AsyncEngine:
        async def connect() -> psycopg.AsyncConnection[Any]:
            return await psycopg.AsyncConnection.connect(
                url.conninfo, autocommit=True, prepare_threshold=5 if self._prepares else None
            )

        return create_async_engine(
            "postgresql+psycopg://",
            async_creator=connect,
            use_native_hstore=False,  # else every connection begins with a look for the type
            **_engine_options(pool),
        )

    def _check_connections(self, ping_after: float) -> None:
        """Look at a connection when it is taken from the pool, at the price of one poll(2) and not of a round trip.

        Input on an idle connection is the server's farewell: a restart, a timeout, a shutdown. After a longer rest, in
        which a firewall may have forgotten the connection without a word, the server is asked. Where one connection
        was found lost or useless, all that are as old are parted with.
        """

        def checked_in(_connection: object, record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's types are private
            record.info["idle_since"] = time.monotonic()

        def checked_out(connection: Any, record: Any, _proxy: object) -> None:  # noqa: ANN401
            if self._distrusts:
                self._distrusts = False
                raise InvalidatePoolError
            if (idle_since := record.info.get("idle_since")) is None:
                return
            try:
                if _has_input(connection.driver_connection):
                    raise DisconnectionError
                if time.monotonic() - idle_since > ping_after:
                    self.dialect.do_ping(connection)
            except psycopg.Error as error:
                raise DisconnectionError from error

        event.listen(self._engine.sync_engine, "checkin", checked_in)
        event.listen(self._engine.sync_engine, "checkout", checked_out)


async def _execute(connection: Connection, statements: Sequence[CompiledStatement], parameters: Parameters) -> Rows:
    *before, last = statements
    if not before:
        return last.read(await fetch(connection, last.text, last.bound(parameters)))
    await fetch(connection, "BEGIN IMMEDIATE")
    try:
        for statement in before:
            await fetch(connection, statement.text, statement.bound(parameters))
        rows = last.read(await fetch(connection, last.text, last.bound(parameters)))
        await fetch(connection, "COMMIT")
    except BaseException:
        with suppress(*DRIVER_ERRORS):  # undone already, or not to be reached: the first error is the one that says why
            await fetch(connection, "ROLLBACK")
        raise
    return rows


async def fetch(connection: Connection, text: str, parameters: Parameters | None = None) -> Iterable[Row]:
    """Run one statement and answer its rows, which it need not have."""
    if isinstance(connection, aiosqlite.Connection):
        return await connection.execute_fetchall(text, parameters)
    cursor = await connection.cursor().execute(text, parameters)
    return await cursor.fetchall() if cursor.description else ()


def _engine_options(pool: PoolSettings) -> dict[str, Any]:
    return {
        "poolclass": AsyncAdaptedQueuePool,
        "pool_size": pool.size,
        "max_overflow": pool.max_overflow,
        "pool_timeout": pool.timeout,
        "pool_recycle": pool.recycle,
        "pool_use_lifo": True,  # the least used connections grow old and are let go
        "pool_reset_on_return": None,  # there is never an open transaction
        "isolation_level": "AUTOCOMMIT",
        "skip_autocommit_rollback": True,
        "hide_parameters": True,  # what users write does not belong in the log
    }


def _sqlite_engine(url: SqliteFile, pool: PoolSettings) -> AsyncEngine:
    url.path.parent.mkdir(parents=True, exist_ok=True)
    place = URL.create("sqlite+aiosqlite", database=str(url.path))
    engine = create_async_engine(place, paramstyle="named", **_engine_options(pool))
    event.listen(engine.sync_engine, "connect", set_sqlite_pragmas)
    return engine


def set_sqlite_pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401 - of either driver
    """Set SQLITE_PRAGMAS on a new connection."""
    cursor = connection.cursor()
    for pragma in SQLITE_PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _has_input(connection: psycopg.AsyncConnection[Any]) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
