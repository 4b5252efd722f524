"""The database: runs statements on pooled connections, repeats them where that is safe, cancels abandoned ones."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, Protocol

from sqlalchemy import Dialect

from service.call_record import CONNECTION, STATEMENT, BatchRecord, current_batch
from service.db.compiled_statement import CompiledStatement, Parameters, Row
from service.db.driver_errors import (
    DRIVER_ERRORS,
    PREPARED_STATEMENT_SQLSTATES,
    Failed,
    Failure,
    StatementFault,
    failure_of,
    sqlstate_of,
)
from service.db.pool import Connector, Pool, Pooled, PoolSettings, PoolTimeout
from service.db.url import DatabaseUrl, SqliteFile
from service.errors import DatabaseUnavailable

Rows = Sequence[Row]

# How often a statement is run, at most, where that is safe.
_ATTEMPTS = {
    Failure.CONFLICT: 8,
    Failure.LOST: 3,
    Failure.NOT_DONE: 3,
    Failure.STALE_PLAN: 2,
}
_CONFLICT_PAUSE = 0.005
"""The longest pause before the second attempt after a conflict (s); it doubles with each attempt."""

_ABANDONED = 1.0
"""Grace for a statement whose caller has gone, before it is cancelled (s): most end by themselves, which is cheaper."""
_CANCELLED = 1.0
"""Grace for a cancelled statement, before its connection is broken (s)."""


class ForeignKeyBroken(Exception):
    """A row refers to one that does not exist. For the store; never leaves it."""


class LockTimeout(Exception):
    """A lock was not granted within the limit that the statement set itself. For the store; never leaves it."""


class OutcomeUnknown(Exception):
    """The connection was lost under a write that must not be repeated. For the store; never leaves it."""


class Observer(Protocol):
    """Hooks that metrics implement, so that `db` does not import them."""

    def on_connection_wait(self, operation: str, seconds: float) -> None:
        """Record how long a statement has waited for a connection (s), whether it got one or not."""

    def on_statement(self, operation: str, seconds: float) -> None:
        """Record the duration of a statement (s), whether it succeeded or not."""


class Driver(Connector[Any], Protocol):
    """Runs statements on the connections that it makes."""

    dialect: Dialect
    prepares: bool

    async def run(self, connection: Any, statements: Sequence[CompiledStatement], parameters: Parameters) -> Rows:  # noqa: ANN401 - the driver's own
        """Run statements as one transaction and answer the rows of the last."""

    async def fetch(self, connection: Any, text: str, parameters: Parameters | None = None) -> Iterable[Row]:  # noqa: ANN401
        """Run a text and answer its rows, which it need not have."""

    async def cancel(self, connection: Any) -> None:  # noqa: ANN401
        """Ask for the running statement to be ended, within a time limit."""

    def hang_up(self, connection: Any) -> None:  # noqa: ANN401
        """Break the connection, so that the running statement ends at once."""

    def is_lost(self, connection: Any) -> bool:  # noqa: ANN401
        """True once the driver knows that the connection is broken."""

    async def wait_closed(self) -> None:
        """Return when closed connections have let go of what they hold."""


class Database:
    """Runs statements. Raises DatabaseUnavailable where the database cannot be reached, ForeignKeyBroken, or a fault.

    A statement whose caller is cancelled has another second, then it is cancelled in the database; if that does not end
    it, its connection is broken. `write` raises CancelledError when the statement has ended, not before: until then it
    may hold locks, and nobody should begin another one for the same rows.
    """

    def __init__(
        self, url: DatabaseUrl, settings: PoolSettings | None = None, observer: Observer | None = None
    ) -> None:
        settings = settings or PoolSettings()
        self._observer = observer
        self._statement_timeout = settings.statement_timeout
        self._driver = _driver(url, settings)
        self._pool: Pool[Any] = Pool(self._driver, settings)
        self.retries = dict.fromkeys(_ATTEMPTS, 0)
        """Statements run again, by cause."""
        self.cancelled = 0
        """Statements cancelled because nobody waited for them any longer, or because they took too long."""
        # SQLite takes one writer at a time: ours wait here, in order, and not in its busy loop.
        self._writer = asyncio.Lock() if isinstance(url, SqliteFile) else None
        self._running: dict[asyncio.Task[Rows], Pooled[Any]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def dialect(self) -> Dialect:
        return self._driver.dialect

    @property
    def pool(self) -> Pool[Any]:
        """The connections, for the metrics."""
        return self._pool

    def connections_in_use(self) -> int:
        """The number of connections that run a statement at the moment."""
        return self._pool.in_use

    def count_lock(self) -> None:
        """Count a row that a statement skipped because another transaction holds its lock."""
        self._pool.counts.troubles["locked"] += 1

    async def read(self, statement: CompiledStatement, parameters: Parameters) -> Rows:
        """Run a statement that only reads; it is run again when a connection is lost."""
        return await self._run_again_if_safe((statement,), parameters, repeatable=True, lingers=False)

    async def write(
        self, *statements: CompiledStatement, parameters: Parameters, repeatable: bool, waits: bool = True
    ) -> Rows:
        """Run statements that write, several of them in one transaction, and answer the rows of the last.

        They are durable when this returns. `repeatable` says that they come to the same if they are run again after
        they took effect and nobody learnt of it, as may be when a connection is lost. Where they must not be, that
        raises OutcomeUnknown. Statements that do not wait for locks raise LockTimeout.
        """
        if not self._writer:
            return await self._run_again_if_safe(
                statements, parameters, repeatable=repeatable, waits=waits, lingers=True
            )
        _current_batch().enter(CONNECTION, perf_counter())
        async with self._writer:
            return await self._run_again_if_safe(statements, parameters, repeatable=repeatable, lingers=True)

    async def fetch(self, connection: Any, text: str, parameters: Parameters | None = None) -> Iterable[Row]:  # noqa: ANN401
        """Run a text on a connection, for tests and tools."""
        return await self._driver.fetch(connection, text, parameters)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """Lend one of the driver's connections, for tests and tools."""
        pooled = await self._pool.acquire()
        try:
            yield pooled.connection
        finally:
            self._pool.release(pooled)

    async def close(self, grace: float = 10.0) -> None:
        """Let what is running end, for `grace` seconds at most, then close every connection, without waiting for it."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        self._pool.close()
        for pooled in self._running.values():
            self._break(pooled)
        if left := {*self._running, *self._ending}:
            await asyncio.wait(left, timeout=_CANCELLED)
        await self._driver.wait_closed()

    async def _run_again_if_safe(
        self,
        statements: Sequence[CompiledStatement],
        parameters: Parameters,
        *,
        repeatable: bool,
        waits: bool = True,
        lingers: bool,
    ) -> Rows:
        attempt = 1
        while True:
            try:
                return await self._run(statements, parameters, lingers=lingers)
            except PoolTimeout as error:
                raise DatabaseUnavailable from error
            except OSError as error:
                self._pool.outage.begin(error)
                raise DatabaseUnavailable from error
            except Failed as failed:
                failure, cause = failed.failure, failed.__cause__
                if failure is Failure.LOST:
                    self._pool.outage.begin(cause or failed)
                if failure is Failure.LOST and not repeatable:
                    raise OutcomeUnknown from cause
                if failure is Failure.LOCKED and not waits:
                    raise LockTimeout from cause
                if attempt >= _ATTEMPTS.get(failure, 1):
                    outcome = _outcome(failure, cause)
                    raise outcome from None if isinstance(outcome, StatementFault) else cause
            self.retries[failure] += 1
            if failure is Failure.CONFLICT:
                await asyncio.sleep(random.uniform(0, _CONFLICT_PAUSE * 2**attempt))  # noqa: S311 - no secret
            attempt += 1

    async def _run(self, statements: Sequence[CompiledStatement], parameters: Parameters, *, lingers: bool) -> Rows:
        batch = _current_batch()
        pooled = await self._acquire(batch)
        task = asyncio.create_task(self._execute(pooled, statements, parameters, batch))
        self._running[task] = pooled
        task.add_done_callback(self._running.pop)
        try:
            await asyncio.wait((task,), timeout=self._statement_timeout)
        except asyncio.CancelledError:
            self._end_later(pooled, task)
            if lingers:
                await asyncio.wait((task,))
            raise
        if not task.done():
            await self._end(pooled, task)
            raise DatabaseUnavailable from task.exception()
        return task.result()

    async def _acquire(self, batch: BatchRecord) -> Pooled[Any]:
        began = batch.since if batch.phase == CONNECTION else perf_counter()
        batch.enter(CONNECTION, began)
        try:
            return await self._pool.acquire()
        except DRIVER_ERRORS as error:
            raise Failed(failure_of(error)) from error
        finally:
            batch.enter(None, now := perf_counter())
            if self._observer:
                self._observer.on_connection_wait(batch.operation, now - began)

    async def _execute(
        self,
        pooled: Pooled[Any],
        statements: Sequence[CompiledStatement],
        parameters: Parameters,
        batch: BatchRecord,
    ) -> Rows:
        """Run statements and release their connection. In a task of its own, which nobody cancels."""
        began = perf_counter()
        batch.enter(STATEMENT, began)
        try:
            rows = await self._driver.run(pooled.connection, statements, parameters)
            self._pool.outage.end()
            return rows
        except DRIVER_ERRORS as error:
            if not pooled.is_broken:  # by `_end`, which counts it
                self._pool.counts.add_trouble(error)
            raise Failed(self._judge(pooled, error)) from error
        finally:
            self._pool.release(pooled)
            batch.enter(None, now := perf_counter())
            if self._observer:
                self._observer.on_statement(batch.operation, now - began)

    def _end_later(self, pooled: Pooled[Any], task: asyncio.Task[Rows]) -> None:
        ending = asyncio.create_task(self._end(pooled, task, grace=_ABANDONED))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _end(self, pooled: Pooled[Any], task: asyncio.Task[Rows], *, grace: float = 0) -> None:
        """End a statement: wait a moment, cancel it, and break its connection where that is to no avail."""
        await asyncio.wait((task,), timeout=grace)
        if not task.done():
            self.cancelled += 1
            await self._driver.cancel(pooled.connection)
            await asyncio.wait((task,), timeout=_CANCELLED)
        if not task.done():
            self._break(pooled)
            self._pool.distrust()
            self._pool.outage.begin("a statement neither ended nor could be cancelled")
            # What does not end in a file waits for its lock.
            self._pool.counts.troubles["locked" if self._writer else "silent"] += 1
            await asyncio.wait((task,))
        task.exception()  # looked at, so that asyncio does not complain where nobody waits

    def _break(self, pooled: Pooled[Any]) -> None:
        pooled.is_broken = True
        self._driver.hang_up(pooled.connection)

    def _judge(self, pooled: Pooled[Any], error: Any) -> Failure:  # noqa: ANN401 - one of DRIVER_ERRORS
        """Classify an error. A lost or useless connection is not used again, nor are those opened before it failed."""
        failure = failure_of(error, lost=self._driver.is_lost(pooled.connection))
        if failure in {Failure.LOST, Failure.NOT_DONE, Failure.STALE_PLAN}:
            self._driver.prepares &= sqlstate_of(error) not in PREPARED_STATEMENT_SQLSTATES
            pooled.is_broken = True
            self._pool.distrust()
        return failure


def _current_batch() -> BatchRecord:
    return current_batch.get() or BatchRecord(perf_counter())


def _driver(url: DatabaseUrl, settings: PoolSettings) -> Driver:
    """The driver for a database; the other one is not loaded."""
    if isinstance(url, SqliteFile):
        from service.db.sqlite import Sqlite

        return Sqlite(url)
    from service.db.postgres import Postgres

    return Postgres(url, prepare=settings.prepare)


def _outcome(failure: Failure, cause: BaseException | None) -> BaseException:
    """The exception for a statement that failed for good."""
    if failure is Failure.FOREIGN_KEY:
        return ForeignKeyBroken()
    if failure in {Failure.FAULT, Failure.STALE_PLAN} and cause:
        return StatementFault(cause)
    return DatabaseUnavailable()
