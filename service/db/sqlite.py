"""SQLite connections by aiosqlite, each with a thread of its own: connect, run statements, interrupt, close."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import aiosqlite
from sqlalchemy import Dialect
from sqlalchemy.dialects import sqlite

from service.db.compiled_statement import CompiledStatement, Parameters, Row
from service.db.driver_errors import DRIVER_ERRORS
from service.db.url import SqliteFile

# What makes SQLite a database for a service. The busy timeout comes first: the others may have to wait as well.
SQLITE_PRAGMAS = (
    "busy_timeout = 5000",  # ms; for other programs, our own writers queue
    "journal_mode = WAL",  # readers beside the writer
    "synchronous = FULL",  # a commit is on the disk when it is answered
    "foreign_keys = ON",
)

_CLOSE_LIMIT = 5.0
"""Time limit of waiting for the threads of closed connections (s)."""


class FileReplaced(OSError):
    """The database file was deleted or replaced under the server."""


class SchemaChanged(OSError):
    """A statement failed, and tables have changed since the server opened the file."""


class Sqlite:
    """The driver of one SQLite file, which it does not create."""

    prepares = False

    def __init__(self, url: SqliteFile) -> None:
        self.dialect: Dialect = sqlite.dialect(paramstyle="named")
        self._path = url.path.absolute()
        self._wal = f"{self._path}-wal"
        self._uri = f"{self._path.as_uri()}?mode=rw"
        self._identity: tuple[int, int] | None = None
        self._schema_version: Row | None = None
        self._closing: set[asyncio.Future[Any]] = set()

    async def connect(self) -> aiosqlite.Connection:
        """Open the file, and no other than the first time."""
        self._verify_file()
        connection = await aiosqlite.connect(self._uri, uri=True, isolation_level=None)
        try:
            for pragma in SQLITE_PRAGMAS:
                await connection.execute_fetchall(f"PRAGMA {pragma}")
            self._schema_version = self._schema_version or await self._read_schema_version(connection)
        except BaseException:
            self.close(connection)
            raise
        return connection

    def is_usable(self, connection: aiosqlite.Connection) -> bool:  # noqa: ARG002 - the driver interface
        """True: a file does not hang up."""
        return True

    async def ping(self, connection: aiosqlite.Connection) -> None:
        """Return at once: there is nobody to ask."""

    async def run(
        self, connection: aiosqlite.Connection, statements: Sequence[CompiledStatement], parameters: Parameters
    ) -> Sequence[Row]:
        """Run statements, several of them in one transaction, and answer the rows of the last.

        Raises FileReplaced if the file is not there any more, where what was written would be lost.
        """
        *before, last = statements
        try:
            if before:
                await self.fetch(connection, "BEGIN IMMEDIATE")
            for statement in before:
                await self.fetch(connection, statement.text, statement.bound(parameters))
            rows = last.read(await self.fetch(connection, last.text, last.bound(parameters)))
            if before:
                await self.fetch(connection, "COMMIT")
        except BaseException as error:
            if before:
                with suppress(*DRIVER_ERRORS):  # undone already: the first error is the one that says why
                    await self.fetch(connection, "ROLLBACK")
            await self._verify_schema(connection, error)
            raise
        self._verify_file()
        self._verify_wal()
        return rows

    async def fetch(
        self, connection: aiosqlite.Connection, text: str, parameters: Parameters | None = None
    ) -> Iterable[Row]:
        """Run a text and answer its rows, which it need not have."""
        return await connection.execute_fetchall(text, parameters)

    async def cancel(self, connection: aiosqlite.Connection) -> None:
        """Interrupt the statement that runs on a connection."""
        await connection.interrupt()

    def hang_up(self, connection: aiosqlite.Connection) -> None:
        """Do nothing: a connection to a file cannot be broken, and its waits are bounded by the busy timeout."""

    def is_lost(self, connection: aiosqlite.Connection) -> bool:  # noqa: ARG002 - the driver interface
        """False: a file does not hang up."""
        return False

    def close(self, connection: aiosqlite.Connection) -> None:
        """Close a connection when its thread is done with what it does."""
        if closing := connection.stop():
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def wait_closed(self) -> None:
        """Return when the threads of closed connections have ended."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSE_LIMIT)

    async def _read_schema_version(self, connection: aiosqlite.Connection) -> Row | None:
        """The number that each change of a table increments (https://www.sqlite.org/pragma.html#pragma_schema_version)."""
        return next(iter(await self.fetch(connection, "PRAGMA schema_version")), None)

    async def _verify_schema(self, connection: aiosqlite.Connection, error: BaseException) -> None:
        """Raise SchemaChanged if that may be why a statement failed: SQLITE_ERROR alone can mean any mistake in SQL."""
        if getattr(error, "sqlite_errorname", None) != "SQLITE_ERROR":
            return
        if (found := await self._read_schema_version(connection)) != self._schema_version:
            raise SchemaChanged(f"the schema version was {self._schema_version} and is {found}") from error

    def _verify_file(self) -> None:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - it runs for every batch, and pathlib takes twice as long
        except FileNotFoundError as error:
            raise FileReplaced(f"{self._path} was deleted; restart the server when it is there again") from error
        identity = (found.st_dev, found.st_ino)
        if self._identity is None:
            self._identity = identity
        elif identity != self._identity:
            raise FileReplaced(f"{self._path} was replaced by another file; restart the server to serve from that one")

    def _verify_wal(self) -> None:
        """Raise FileReplaced if the write-ahead log is gone, which exists while a connection is open.

        SQLite does not notice: it goes on writing into the deleted file, whose content the last connection copies into
        the database when it is closed, and which is lost if the process is killed.
        """
        try:
            os.stat(self._wal)  # noqa: PTH116 - as above
        except FileNotFoundError as error:
            raise FileReplaced(f"{self._wal} was deleted; restart the server, by SIGTERM, to lose no task") from error


def set_sqlite_pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401 - of either driver
    """Set SQLITE_PRAGMAS on a new connection."""
    cursor = connection.cursor()
    for pragma in SQLITE_PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
