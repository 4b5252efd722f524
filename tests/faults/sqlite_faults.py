"""Faults of SQLite's file."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from service.db.schema import Schema
from service.db.url import SqliteFile
from tests.faults.fault import SQLITE, Fault
from tests.faults.system import System

_ONLY_SQLITE = frozenset({SQLITE})


@contextmanager
def file_locked(system: System) -> Iterator[None]:
    """Hold SQLite's lock for writing, as another program does."""
    path = system.folder / "taskwell.db"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def file_moved(system: System) -> Iterator[None]:
    """Move the database file away, and back."""
    path = system.folder / "taskwell.db"
    path.rename(path.with_suffix(".away"))
    try:
        yield
    finally:
        path.with_suffix(".away").rename(path)


@contextmanager
def file_replaced(system: System) -> Iterator[None]:
    """Put a copy in the place of the database file, and the file back."""
    path = system.folder / "taskwell.db"
    copy, away = path.with_suffix(".copy"), path.with_suffix(".away")
    shutil.copyfile(path, copy)
    path.rename(away)
    copy.rename(path)
    try:
        yield
    finally:
        away.rename(path)


@contextmanager
def file_read(system: System) -> Iterator[None]:
    """Read in one long transaction, as a backup does."""
    with closing(sqlite3.connect(system.folder / "taskwell.db", isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM tasks").fetchone()
        yield
        other.execute("ROLLBACK")


@contextmanager
def column_added(system: System) -> Iterator[None]:
    """Add a column under the server, and remove it."""
    with closing(sqlite3.connect(system.folder / "taskwell.db", isolation_level=None, timeout=30)) as other:
        other.execute("ALTER TABLE tasks ADD COLUMN priority integer DEFAULT 1")
        yield
        other.execute("ALTER TABLE tasks DROP COLUMN priority")


@contextmanager
def table_renamed(system: System) -> Iterator[None]:
    """Rename the table under the server, and back."""
    with closing(sqlite3.connect(system.folder / "taskwell.db", isolation_level=None, timeout=30)) as other:
        other.execute("ALTER TABLE tasks RENAME TO away")
        yield
        other.execute("ALTER TABLE away RENAME TO tasks")


@contextmanager
def migrated_down(system: System) -> Iterator[None]:
    """Migrate one revision down under the server, and up again."""
    schema = Schema(SqliteFile(system.folder / "taskwell.db"))
    newest = schema.current()
    schema.down("-1")
    yield
    schema.up(str(newest))


FAULTS = (
    Fault("file locked by another program", file_locked, _ONLY_SQLITE),
    Fault("file moved away", file_moved, _ONLY_SQLITE, seconds=0.3),
    Fault("file replaced by a copy", file_replaced, _ONLY_SQLITE, seconds=0.3),
    Fault("file in a long read", file_read, _ONLY_SQLITE),
    Fault("column added", column_added, _ONLY_SQLITE, seconds=0.3),
    Fault("table renamed", table_renamed, _ONLY_SQLITE, seconds=0.3),
    Fault("schema migrated down", migrated_down, _ONLY_SQLITE, seconds=0.3),
)
