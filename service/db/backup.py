"""Backup of an SQLite database in use: a consistent copy by SQLite's backup API, verified before it gets its name."""

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

_LOCK_TIMEOUT = 30.0
"""Time limit of waiting for another program that has locked the database exclusively (s)."""


class BackupFailed(Exception):
    """No backup was written; the message says why and what to do."""


def back_up(source: Path, target: Path) -> int:
    """Copy the database to a new file, and return its size (bytes). Raises BackupFailed.

    The copy is the database as of one moment; reads and writes go on. `target` is there only when the copy is complete
    and passed `PRAGMA integrity_check`. An existing file is never replaced.
    """
    if os.path.lexists(target):
        raise _exists(target)
    try:
        # Readable by this user alone, as mkstemp makes it: the copy has the tasks of all users.
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    except OSError as error:
        raise BackupFailed(f"cannot write to the folder {target.parent}: {error.strerror}") from error
    os.close(descriptor)
    partial = Path(name)
    try:
        _copy(source, partial)
        _verify(partial)
        return _publish(partial, target)
    except sqlite3.Error as error:
        if (error.sqlite_errorname or "").startswith("SQLITE_CORRUPT"):
            raise _damaged(str(error)) from error
        raise BackupFailed(f"no backup was written, SQLite says: {error}") from error
    except OSError as error:
        raise BackupFailed(f"no backup was written: {error}") from error
    finally:
        for left in (partial, Path(f"{partial}-journal")):
            with suppress(OSError):
                left.unlink(missing_ok=True)


def _copy(source: Path, partial: Path) -> None:
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as original,
        closing(sqlite3.connect(partial)) as copy,
    ):
        # All pages in one step, which is one read transaction. In several steps, each write of a server in between
        # would make the backup begin anew.
        original.backup(copy, pages=-1, progress=_lock_timer())


def _lock_timer() -> Callable[[int, int, int], None]:
    """A callback that ends a backup which waits for a lock: by itself, it would be tried again without end."""
    deadline = time.monotonic() + _LOCK_TIMEOUT

    def progress(status: int, _left: int, _pages: int) -> None:
        if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} and time.monotonic() > deadline:
            raise BackupFailed("no backup was written: another program has locked the database; end it, and try again")

    return progress


def _verify(partial: Path) -> None:
    """Raise BackupFailed if the copy is damaged."""
    # `immutable` leaves no write-ahead log beside the file.
    with closing(sqlite3.connect(f"{partial.absolute().as_uri()}?immutable=1", uri=True)) as copy:
        found = [row[0] for row in copy.execute("PRAGMA integrity_check(10)")]
        if found != ["ok"]:
            raise _damaged("; ".join(found))
        if copy.execute("PRAGMA foreign_key_check").fetchone():
            raise BackupFailed("no backup was written: the database has tasks without their user")


def _publish(partial: Path, target: Path) -> int:
    """Give the copy its name, which must be free, and return its size (bytes)."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(partial, target)
    except OSError as error:  # the name was taken meanwhile, or the file system has no hard links
        if os.path.lexists(target):
            raise _exists(target) from error
        partial.rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return target.stat().st_size


def _exists(target: Path) -> BackupFailed:
    return BackupFailed(f"{target} exists, and was left as it is: name a new file")


def _damaged(words: str) -> BackupFailed:
    return BackupFailed(
        f"no backup was written: the database is damaged ({words}). Keep its files as they are, and restore an earlier "
        "backup"
    )
