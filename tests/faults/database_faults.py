"""Faults of PostgreSQL: sessions, locks, settings, migrations and processes."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg.conninfo import make_conninfo

from service.db.schema import Schema
from service.db.url import parse_database_url
from tests.faults.fault import Fault, Injection
from tests.faults.system import ROLE, System

_OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_LOCK_WAIT = "2s"
"""The longest that a fault waits for a lock of its own."""


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
def column_added(system: System) -> Iterator[None]:
    """Add a column, as the next version's migration does, and remove it."""
    with _admin(system) as admin, suppress(psycopg.errors.LockNotAvailable):
        admin.execute("ALTER TABLE tasks ADD COLUMN IF NOT EXISTS priority integer DEFAULT 1")
        yield
        _until_granted(admin, "ALTER TABLE tasks DROP COLUMN priority")
        return
    yield


@contextmanager
def type_changed(system: System) -> Iterator[None]:
    """Change the type of a column under prepared statements."""
    with _admin(system) as admin:
        _until_granted(admin, "ALTER TABLE tasks ALTER title TYPE varchar(300)")
        yield
        _until_granted(admin, "ALTER TABLE tasks ALTER title TYPE text")


@contextmanager
def index_rebuilt(system: System) -> Iterator[None]:
    """Build the indexes anew, which locks the table for writes."""
    with _admin(system) as admin, suppress(psycopg.errors.LockNotAvailable):
        admin.execute("REINDEX TABLE tasks")
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
def postmaster_stopped(system: System) -> Iterator[None]:
    """Stop the process of the database that accepts connections; those that exist work."""
    with _admin(system) as admin:
        [(pid,)] = admin.execute("SELECT pg_read_file('postmaster.pid')")
    postmaster = int(pid.split()[0])
    assert system.proxy
    _send([postmaster], signal.SIGSTOP)
    try:
        (system.behind_pooler or system.proxy).cut()
        yield
    finally:
        _send([postmaster], signal.SIGCONT)


def _admin(system: System) -> psycopg.Connection:
    connection = psycopg.connect(system.admin_url, autocommit=True, connect_timeout=10)
    connection.execute(f"SET lock_timeout = '{_LOCK_WAIT}'")
    return connection


def _until_granted(admin: psycopg.Connection, statement: str) -> None:
    """Run a statement that locks the table; again if it got no lock."""
    for _ in range(10):
        with suppress(psycopg.errors.LockNotAvailable):
            admin.execute(statement)
            return


def _default(setting: str) -> Injection:
    """Change a default of the database for new sessions, and end the others."""
    return _altered(f"SET {setting}", f"RESET {setting.partition(' ')[0]}")


def _limited(connections: int) -> Injection:
    """Let the role of the service have so many connections at most."""
    return _altered(f"CONNECTION LIMIT {connections}", "CONNECTION LIMIT -1")


def _altered(change: str, reset: str) -> Injection:
    @contextmanager
    def changed(system: System) -> Iterator[None]:
        with _admin(system) as admin:
            admin.execute("SET default_transaction_read_only = off")
            for clause in (change, reset):
                admin.execute(f"ALTER DATABASE {admin.info.dbname} {clause}")
                admin.execute(f"SELECT pg_terminate_backend(pid) {_OTHERS}")
                if clause == change:
                    yield

    return changed


def _of_role(setting: str) -> Injection:
    """Change a default of the service's role, and end its sessions."""
    return _done(f"ALTER ROLE {ROLE} SET {setting}", f"ALTER ROLE {ROLE} RESET {setting.partition(' ')[0]}")


def _done(break_: str, heal: str, *, ends_sessions: bool = True) -> Injection:
    """Run a statement that breaks something and then one that heals it, from another database.

    Before each, sessions are ended if they are in the way or would not notice. {database} stands for the name.
    """

    @contextmanager
    def done(system: System) -> Iterator[None]:
        name = system.database_name
        elsewhere = make_conninfo(system.admin_url, dbname="postgres")
        with psycopg.connect(elsewhere, autocommit=True, connect_timeout=10) as admin:
            for statement in (break_, heal):
                _until_unused(admin, statement.format(database=name), name if ends_sessions else "")
                if statement == break_:
                    yield

    return done


def _until_unused(admin: psycopg.Connection, statement: str, database: str) -> None:
    """Run a statement that needs a database without sessions, or sessions that begin after it."""
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE '{database}%'"
    deadline = time.monotonic() + 60
    while True:
        admin.execute(end)
        try:
            admin.execute(statement)
        except psycopg.errors.ObjectInUse:
            assert time.monotonic() < deadline, statement
        else:
            break
    admin.execute(end)


def _within(break_: str, heal: str) -> Injection:
    """Run statements in the database that lock its tables."""

    @contextmanager
    def changed(system: System) -> Iterator[None]:
        with _admin(system) as admin:
            _until_granted(admin, break_)
            yield
            _until_granted(admin, heal)

    return changed


@contextmanager
def migrated_down(system: System) -> Iterator[None]:
    """Migrate one revision down under the server, and up again."""
    with _admin(system) as admin:
        [(newest,)] = admin.execute("SELECT version_num FROM alembic_version")
    schema = Schema(parse_database_url(system.admin_url))
    schema.down("-1")
    yield
    schema.up(str(newest))


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


FAULTS = (
    Fault("sessions terminated", terminated, seconds=0),
    Fault("statements cancelled", cancelled, seconds=0),
    Fault("table locked", table_locked),
    Fault("rows locked", rows_locked),
    Fault("database read-only", _default("default_transaction_read_only = on")),
    Fault("serializable by default", _default("default_transaction_isolation = serializable")),
    Fault("repeatable read by default", _default("default_transaction_isolation = 'repeatable read'")),
    Fault("statement_timeout of 3 ms", _default("statement_timeout = '3ms'")),
    Fault("lock_timeout of 1 ms", _default("lock_timeout = '1ms'")),
    Fault("idle_session_timeout of 20 ms", _default("idle_session_timeout = '20ms'"), seconds=1),
    Fault("synchronous_commit off by default", _default("synchronous_commit = off")),
    Fault("statement_timeout of 3 ms, of the role", _of_role("statement_timeout = '3ms'")),
    Fault("transaction_timeout of 3 ms", _of_role("transaction_timeout = '3ms'")),
    Fault(
        "idle_in_transaction_session_timeout of 1 ms",
        _of_role("idle_in_transaction_session_timeout = '1ms'"),
    ),
    Fault("search_path leads elsewhere", _of_role("search_path = nowhere")),
    Fault("rights revoked", _within(f"REVOKE ALL ON tasks, users FROM {ROLE}", f"GRANT ALL ON tasks, users TO {ROLE}")),
    Fault("role may not log in", _done(f"ALTER ROLE {ROLE} NOLOGIN", f"ALTER ROLE {ROLE} LOGIN")),
    Fault(
        "role may not connect",
        _done(
            f"REVOKE CONNECT ON DATABASE {{database}} FROM PUBLIC, {ROLE}",
            f"GRANT CONNECT ON DATABASE {{database}} TO PUBLIC, {ROLE}",
        ),
    ),
    Fault(
        "database closed to connections",
        _done("ALTER DATABASE {database} ALLOW_CONNECTIONS false", "ALTER DATABASE {database} ALLOW_CONNECTIONS true"),
    ),
    Fault(
        "database renamed",
        _done(
            "ALTER DATABASE {database} RENAME TO {database}_away", "ALTER DATABASE {database}_away RENAME TO {database}"
        ),
    ),
    Fault("table renamed", _within("ALTER TABLE tasks RENAME TO away", "ALTER TABLE away RENAME TO tasks")),
    Fault(
        "column renamed",
        _within("ALTER TABLE tasks RENAME title TO away", "ALTER TABLE tasks RENAME away TO title"),
    ),
    Fault("schema migrated down", migrated_down),
    Fault("no connection allowed", _limited(0)),
    Fault("two connections allowed", _limited(2), seconds=1),
    Fault("column added", column_added, seconds=0.3),
    Fault("type of a column changed", type_changed, seconds=0.3),
    Fault("index built anew", index_rebuilt, seconds=0),
    Fault("database processes stopped (SIGSTOP)", backends_stopped, seconds=0.7),
    Fault("no new process of the database (SIGSTOP)", postmaster_stopped, seconds=0.7),
    Fault("database crashed (kill -9)", crashed, seconds=0.1),
)
