"""Faults of the database and of the way to it."""

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress

import psycopg

from tests.faults.fault import SQLITE, Fault
from tests.faults.system import System
from tests.proxy import Proxy

_OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_LOCK_WAIT = "2s"
"""The longest that a fault waits for a lock of its own."""
_ONLY_SQLITE = frozenset({SQLITE})


def _by_proxy(break_: Callable[[Proxy], None], heal: Callable[[Proxy], None]) -> Callable[..., AbstractContextManager]:  # type: ignore[type-arg]
    @contextmanager
    def broken(system: System) -> Iterator[None]:
        assert system.proxy, "the system has no proxy"
        break_(system.proxy)
        try:
            yield
        finally:
            heal(system.proxy)

    return broken


@contextmanager
def responses_lost(system: System) -> Iterator[None]:
    """Lose the responses of several statements that took effect."""
    assert system.proxy, "the system has no proxy"
    for _ in range(5):
        system.proxy.swallowed.clear()
        system.proxy.swallow_answers()
        system.proxy.swallowed.wait(0.2)
    yield


@contextmanager
def terminated(system: System) -> Iterator[None]:
    """Terminate every session."""
    with _admin(system) as admin:
        admin.execute(f"SELECT pg_terminate_backend(pid) {_OTHERS}")
    yield


@contextmanager
def cancelled(system: System) -> Iterator[None]:
    """Cancel every statement, again and again."""
    with _admin(system) as admin:
        for _ in range(10):
            admin.execute(f"SELECT pg_cancel_backend(pid) {_OTHERS}")
            time.sleep(0.02)
    yield


@contextmanager
def table_locked(system: System) -> Iterator[None]:
    """Lock the table, as a careless migration does."""
    with _admin(system) as admin, suppress(psycopg.errors.LockNotAvailable), admin.transaction():
        admin.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        yield
        return
    yield


@contextmanager
def rows_locked(system: System) -> Iterator[None]:
    """Lock some rows, as another program's transaction does."""
    with _admin(system) as admin, admin.transaction():
        admin.execute("SELECT 1 FROM tasks ORDER BY created_at DESC LIMIT 40 FOR UPDATE SKIP LOCKED")
        yield


@contextmanager
def read_only(system: System) -> Iterator[None]:
    """Make the server a standby in all that its clients see."""
    with _with_default(system, "default_transaction_read_only = on"):
        yield


@contextmanager
def serializable(system: System) -> Iterator[None]:
    """Make transactions serializable by default."""
    with _with_default(system, "default_transaction_isolation = serializable"):
        yield


@contextmanager
def backends_stopped(system: System) -> Iterator[None]:
    """Stop every process of the database that has a session."""
    with _admin(system) as admin:
        pids = [pid for (pid,) in admin.execute(f"SELECT pid {_OTHERS}")]
    _send(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _send(pids, signal.SIGCONT)


@contextmanager
def crashed(system: System) -> Iterator[None]:
    """Kill one process of the database, whose other processes then start again and recover."""
    with _admin(system) as admin:
        pids = [pid for (pid,) in admin.execute(f"SELECT pid {_OTHERS} LIMIT 1")]
    _send(pids, signal.SIGKILL)
    yield
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(system.admin_url, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the database does not come back"
            time.sleep(0.05)


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


def _admin(system: System) -> psycopg.Connection:
    connection = psycopg.connect(system.admin_url, autocommit=True, connect_timeout=10)
    connection.execute(f"SET lock_timeout = '{_LOCK_WAIT}'")
    return connection


@contextmanager
def _with_default(system: System, setting: str) -> Iterator[None]:
    """Change a default of the database for new sessions, and end the others."""
    name = setting.partition(" ")[0]
    with _admin(system) as admin:
        admin.execute("SET default_transaction_read_only = off")
        database = admin.info.dbname
        for change, reset in ((f"SET {setting}", False), (f"RESET {name}", True)):
            admin.execute(f"ALTER DATABASE {database} {change}")
            admin.execute(f"SELECT pg_terminate_backend(pid) {_OTHERS}")
            if not reset:
                yield


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _nothing(_proxy: Proxy) -> None:
    pass


FAULTS = (
    Fault("connections cut", _by_proxy(Proxy.cut, _nothing), seconds=0),
    Fault("connections refused", _by_proxy(Proxy.refuse, Proxy.accept), seconds=0.7),
    Fault("network silent", _by_proxy(Proxy.hold, Proxy.flow), seconds=0.7),
    Fault("connections silent for good", _by_proxy(Proxy.freeze, _nothing), seconds=0, recovers_within=10),
    Fault("connections silent, one broken", _by_proxy(Proxy.lose_peers, _nothing), seconds=0, recovers_within=10),
    Fault("responses lost", responses_lost, seconds=0),
    Fault("sessions terminated", terminated, seconds=0),
    Fault("statements cancelled", cancelled, seconds=0),
    Fault("table locked", table_locked),
    Fault("rows locked", rows_locked),
    Fault("database read-only", read_only),
    Fault("database serializable", serializable),
    Fault("database processes stopped (SIGSTOP)", backends_stopped, seconds=0.7),
    Fault("database crashed (kill -9)", crashed, seconds=0.1),
    Fault("SQLite's file locked", file_locked, _ONLY_SQLITE),
    Fault("SQLite's file moved away", file_moved, _ONLY_SQLITE, seconds=0.3),
)
