"""A synchronous connection for commands: SQL with named parameters (`:name`) on either database."""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import psycopg

from service.db.driver_errors import DRIVER_ERRORS, Failure, failure_of
from service.db.sqlite import set_sqlite_pragmas
from service.db.url import DatabaseUrl, SqliteFile
from service.errors import DatabaseUnavailable

Result = TypeVar("Result")
Row = tuple[Any, ...]

_LOCK_TIMEOUT = "10s"
"""Time limit of waiting for a lock on PostgreSQL; that of SQLite is its busy timeout."""
_ATTEMPTS = 5
"""Runs of a transaction that the database undoes because of other ones (deadlocks)."""
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


class DatabaseRefused(Exception):
    """The database refused a statement; the message says why."""


class Session:
    """One connection. Statements outside `in_transaction` are transactions of their own."""

    def __init__(self, connection: psycopg.Connection[Row] | sqlite3.Connection) -> None:
        self._connection = connection
        self.is_postgres = isinstance(connection, psycopg.Connection)

    def fetch(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a query and return its rows."""
        return cast("list[Row]", self._execute(sql, parameters).fetchall())

    def change(self, sql: str, parameters: Mapping[str, Any]) -> int:
        """Run a statement and return the number of rows that it changed."""
        return int(self._execute(sql, parameters).rowcount)

    def change_many(self, sql: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run a statement for each of the rows, without a round trip for each. Returns the number of changed rows."""
        cursor: Any = self._connection.cursor()
        cursor.executemany(self._text(sql), rows)
        return int(cursor.rowcount)

    def fetch_many(self, sql: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
        """Run a query for each of the rows, without a round trip for each."""
        if not isinstance(self._connection, psycopg.Connection):
            for row in rows:
                yield from self._connection.execute(sql, row)
            return
        cursor = self._connection.cursor()
        cursor.executemany(self._text(sql), rows, returning=True)
        for result in cursor.results():
            yield from result

    def in_transaction(self, action: Callable[[], Result]) -> Result:
        """Run the action in a transaction; again if the database undid it because of other transactions."""
        attempt = 1
        while True:
            try:
                with self._transaction():
                    return action()
            except DRIVER_ERRORS as error:
                if failure_of(error) is not Failure.CONFLICT or attempt == _ATTEMPTS:
                    raise
                time.sleep(0.05 * 2**attempt)
                attempt += 1

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if isinstance(self._connection, psycopg.Connection):
            with self._connection.transaction():
                # For this transaction alone: behind a pooler, the session is not ours.
                self._connection.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
                yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()

    def _execute(self, sql: str, parameters: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - a cursor of either driver
        connection: Any = self._connection
        return connection.execute(self._text(sql), parameters or {})

    def _text(self, sql: str) -> str:
        return _PARAMETER.sub(r"%(\1)s", sql) if self.is_postgres else sql


@contextmanager
def open_session(url: DatabaseUrl) -> Iterator[Session]:
    """Connect for the length of the block. Errors of the driver become DatabaseUnavailable or DatabaseRefused."""
    connection: Any = None
    try:
        connection = _connect(url)
        yield Session(connection)
    except DRIVER_ERRORS as error:
        raise _translated(url, error) from error
    finally:
        if connection is not None:
            connection.close()


def _connect(url: DatabaseUrl) -> psycopg.Connection[Row] | sqlite3.Connection:
    if not isinstance(url, SqliteFile):
        return psycopg.connect(url.conninfo, autocommit=True, prepare_threshold=None)
    # A file that is not there is not made.
    connection = sqlite3.connect(f"{url.path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
    set_sqlite_pragmas(connection, None)
    return connection


def _translated(url: DatabaseUrl, error: psycopg.Error | sqlite3.Error) -> Exception:
    failure = failure_of(error)
    if failure is Failure.LOCKED or (getattr(error, "sqlite_errorname", None) or "").startswith("SQLITE_BUSY"):
        return DatabaseRefused(f"others held a lock of the database ({url}) for too long: run the command again")
    if failure in {Failure.UNAVAILABLE, Failure.LOST, Failure.NOT_DONE}:
        unavailable = DatabaseUnavailable()
        unavailable.__cause__ = error
        return unavailable
    diagnosis = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return DatabaseRefused(f"the database ({url}) refused: {diagnosis or error}")
