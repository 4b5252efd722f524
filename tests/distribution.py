"""The suites of store and RPCs on a distributed PostgreSQL, as `make test-distributed` and a real cluster run them.

TASKWELL_TEST_DISTRIBUTED=true runs them on PostgreSQL alone, with statements for one user. TASKWELL_TEST_PREPARE_SQL is
SQL that is run in each fresh database, for instance to make the extension citus and add its nodes; the tables are then
distributed after each migration, and the same mode is on. TASKWELL_TEST_MIGRATED_SQL is run after each migration. Both
may be `@` and the name of a file.
"""

import os
from pathlib import Path

import psycopg

from service.db.engine import Database
from service.db.schema import Schema
from service.db.store import SqlTaskStore
from service.db.url import DatabaseUrl, SqliteFile

_PREPARE, _MIGRATED, _MODE = "TASKWELL_TEST_PREPARE_SQL", "TASKWELL_TEST_MIGRATED_SQL", "TASKWELL_TEST_DISTRIBUTED"
VARIABLES = frozenset({_PREPARE, _MIGRATED, _MODE})
IS_CLUSTER = _PREPARE in os.environ
"""True on a real cluster. Tests that look into one server, at its locks or plans, are skipped there."""
IS_DISTRIBUTED = os.environ.get(_MODE) == "true" or IS_CLUSTER

_PARTITIONS = Path(__file__).with_name("sql") / "partitions.sql"


def prepare(url: str) -> None:
    """Prepare a fresh database."""
    _run(url, os.environ.get(_PREPARE, ""))


def migrate(url: DatabaseUrl) -> None:
    """Migrate a database, and distribute its tables where it is Citus."""
    schema = Schema(url)
    schema.up()
    if isinstance(url, SqliteFile):
        return
    if IS_CLUSTER:
        schema.distribute()
    _run(url.conninfo, os.environ.get(_MIGRATED, ""))


def store_of(database: Database, *, known_users_only: bool = False) -> SqlTaskStore:
    """A store on this database, in the mode of the suite."""
    by_owner = IS_DISTRIBUTED and database.dialect.name == "postgresql"
    return SqlTaskStore(database, known_users_only=known_users_only, by_owner=by_owner)


def partition(url: str) -> None:
    """Replace the empty tables of a migrated database by tables with 16 partitions."""
    _run(url, f"@{_PARTITIONS}")


def _run(url: str, sql: str) -> None:
    if sql.startswith("@"):
        sql = Path(sql[1:]).read_text()
    if sql:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(sql)
