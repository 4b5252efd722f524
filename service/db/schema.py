"""The schema of a database: its revision, the revision that this version needs, and migrations between them.

Alembic is loaded only to migrate: a server whose database is up to date starts without it.
"""

import pkgutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, inspect, select, text
from sqlalchemy.exc import DBAPIError

import migrations.versions
from service.db.driver_errors import DRIVER_ERRORS, Failure, failure_of
from service.db.sqlite import set_sqlite_pragmas
from service.db.tables import taskwell_schema
from service.db.url import DatabaseUrl, PostgresServer, SqliteFile
from service.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from alembic.config import Config

_SQLITE_NEEDED = (3, 35)

LOCK_PAUSE = 2.0
"""A migration that waits for a lock gives up after a second (migrations/env.py) and lets the calls through that wait
behind it. It is tried again after this pause (s)."""

# The statement that distributes each table on Citus, in this order: a user's tasks are on the node of the user. The two
# tables about the schema are on each node, so that any of them can be asked.
DISTRIBUTION = {
    "users": "SELECT create_distributed_table('users', 'id')",
    "tasks": "SELECT create_distributed_table('tasks', 'user_id', colocate_with => 'users')",
    "alembic_version": "SELECT create_reference_table('alembic_version')",
    "taskwell_schema": "SELECT create_reference_table('taskwell_schema')",
}


class SchemaUnknown(Exception):
    """This version cannot serve from the database, or go to a revision; the message says why and what to do."""


class SchemaLocked(SchemaUnknown):
    """Another session or program held a lock for too long; the message says what to do."""


class Schema:
    """The schema of one database. Every method raises DatabaseUnavailable where the database cannot be reached.

    A migration that does not get its locks is tried again for `lock_timeout` seconds.
    """

    def __init__(self, url: DatabaseUrl, *, lock_timeout: float = 60.0) -> None:
        self._url = url
        self._lock_timeout = lock_timeout
        self._engine = _sqlite_engine(url) if isinstance(url, SqliteFile) else _postgres_engine(url)

    @property
    def newest(self) -> str:
        """The revision that this version of the service was written for."""
        return known_revisions()[-1]

    def migrate(self, direction: str, revision: str | None = None) -> str:
        """Go `up` or `down` to a revision, stay (`current`), or `distribute` the tables.

        Answers a sentence about where the database is then.
        """
        match direction:
            case "distribute":
                return self.distribute()
            case "up":
                self.up(revision or "head")
            case "down":
                self.down(revision or "-1")
        return f"the schema is at {self.current() or 'none: no tables yet'}"

    def current(self) -> str | None:
        """The revision that the database is at; None for one that was never migrated."""
        with self._connection(begins=False) as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return revision

    def verify(self, *, makes_users: bool = True) -> None:
        """Raise SchemaUnknown, with a sentence for whoever runs the service, unless this version can serve from it.

        A newer schema is served if its migration says that this version can. `makes_users` says whether the service
        inserts users, or only looks them up.
        """
        self._verify_database()
        current = self.current()
        if self._is_behind(current):
            raise SchemaUnknown(
                f"the database is at schema revision {current or 'none'}, this version needs {self.newest}: "
                "run 'taskwell migrate up', or start with --migrate (on SQLite 'taskwell serve' does it by itself)"
            )
        if current and current != self.newest:
            self._verify_compatible(current)
        self._verify_rights(makes_users=makes_users)

    def up(self, revision: str = "head") -> None:
        """Migrate to a later revision. Where several processes do so at once, one does it and the others wait.

        A newer schema that this version can serve from stays as it is, so that a deployment can be rolled back.
        """
        current = self.current()
        if revision == "head" and current and not self._is_behind(current):
            self._verify_compatible(current)
            return
        from alembic import command

        self._run(lambda config: command.upgrade(config, revision))

    def down(self, revision: str) -> None:
        """Migrate to an earlier revision, `-1` for one step, `base` for an empty database. Drops what it must."""
        from alembic import command

        self._run(lambda config: command.downgrade(config, revision))

    def is_distributed(self) -> bool:
        """True if the database is Citus and the tasks are distributed over its nodes."""
        return "tasks" in self._distributed_tables()

    def distribute(self) -> str:
        """Distribute the tables over the nodes of a Citus cluster, those that are not yet; answers a sentence.

        Each table is distributed in a transaction of its own, as Citus recommends. While that runs, writes to the
        table wait. Raises SchemaUnknown if the database is not Citus or has no tables of this version.
        """
        self.verify()
        if isinstance(self._url, SqliteFile):
            raise SchemaUnknown("SQLite cannot be distributed: use PostgreSQL with the extension citus")
        if not self._has_citus():
            raise SchemaUnknown(
                "the database has no extension citus: run CREATE EXTENSION citus on a server where Citus is installed, "
                "and add its nodes, before the tables are distributed"
            )
        left = [statement for table, statement in DISTRIBUTION.items() if table not in self._distributed_tables()]
        for statement in left:
            with self._connection(begins=False) as connection:
                connection.exec_driver_sql(statement)
                connection.commit()
        return "the tables are distributed" if left else "the tables were distributed before: nothing was changed"

    def check(self) -> None:
        """Raise alembic.util.AutogenerateDiffsDetected where the service's tables are not those of the migrations."""
        from alembic import command

        self._run(command.check)

    def _has_citus(self) -> bool:
        if isinstance(self._url, SqliteFile):
            return False
        with self._connection(begins=False) as connection:
            extension = text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')")
            return bool(connection.execute(extension).scalar_one())

    def _distributed_tables(self) -> set[str]:
        """The tables of the service that Citus keeps on several nodes."""
        if not self._has_citus():
            return set()
        with self._connection(begins=False) as connection:
            # 'h' has shards by the hash of a column, 'n' with replication model 't' is a reference table.
            # https://docs.citusdata.com/en/stable/develop/api_metadata.html#partition-table
            rows = text(
                "SELECT relname FROM pg_dist_partition JOIN pg_class ON pg_class.oid = logicalrelid"
                " WHERE logicalrelid = to_regclass(relname) AND (partmethod = 'h' OR repmodel = 't')"
            )
            return set(connection.execute(rows).scalars())

    def _is_behind(self, current: str | None) -> bool:
        return current is None or (current != self.newest and current in known_revisions())

    def _verify_compatible(self, current: str) -> None:
        """Raise SchemaUnknown unless this version can serve from `current`, its own revision or a later one."""
        if current == self.newest:
            return
        with self._connection(begins=False) as connection:
            oldest = None
            if inspect(connection).has_table(taskwell_schema.name):
                row = select(taskwell_schema.c.compatible_from).where(taskwell_schema.c.revision == current)
                oldest = connection.execute(row).scalar_one_or_none()
        if oldest is None:
            raise SchemaUnknown(
                f"the table alembic_version says {current}, which is no revision of Taskwell: another program keeps "
                "its tables in the same schema. Give Taskwell a schema of its own: CREATE SCHEMA taskwell, then "
                "ALTER ROLE its role SET search_path = taskwell"
            )
        if oldest > self.newest:
            raise SchemaUnknown(
                f"the database is at schema revision {current}, which needs a version of Taskwell with revision "
                f"{oldest} or later; this version has {self.newest}: run the newer version"
            )

    def _verify_database(self) -> None:
        with self._connection(begins=False) as connection:
            if connection.dialect.name == "sqlite":
                version = ".".join(map(str, sqlite3.sqlite_version_info))
                if sqlite3.sqlite_version_info < _SQLITE_NEEDED:
                    raise SchemaUnknown(f"SQLite {version} is too old: Taskwell needs 3.35 for RETURNING")
            elif (encoding := connection.exec_driver_sql("SHOW server_encoding").scalar_one()) != "UTF8":
                raise SchemaUnknown(
                    f"the database's encoding is {encoding}, it must be UTF8: create it with ENCODING 'UTF8'"
                )

    def _verify_rights(self, *, makes_users: bool) -> None:
        needed = ["tasks SELECT", "tasks INSERT", "tasks UPDATE", "tasks DELETE", "users SELECT"]
        needed += ["users INSERT"] if makes_users else []
        with self._connection(begins=False) as connection:
            if connection.dialect.name == "sqlite":
                return
            asked = text("SELECT has_table_privilege(:table, :right)")
            for need in needed:
                table, right = need.split()
                if not connection.execute(asked, {"table": table, "right": right}).scalar_one():
                    raise SchemaUnknown(f"the database's role lacks a right: run GRANT {right} ON {table} TO its name")

    def _run(self, action: "Callable[[Config], None]") -> None:
        """Run an Alembic command in one transaction, again where it waited too long for a lock."""
        deadline = time.monotonic() + self._lock_timeout
        while True:
            try:
                self._run_once(action)
            except SchemaLocked:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(LOCK_PAUSE)
            else:
                return

    def _run_once(self, action: "Callable[[Config], None]") -> None:
        from alembic.util import AutogenerateDiffsDetected, CommandError

        config = alembic_config()
        with self._connection(begins=True) as connection:
            config.attributes["connection"] = connection
            try:
                action(config)
            except AutogenerateDiffsDetected:
                raise
            except CommandError as error:
                raise SchemaUnknown(
                    f"this version cannot migrate the database: {error}. A newer version may have migrated it, or "
                    "there is no such revision; 'taskwell migrate current' shows where it is"
                ) from error
            connection.commit()

    @contextmanager
    def _connection(self, *, begins: bool) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                if begins and connection.dialect.name == "sqlite":
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        except DBAPIError as error:
            if getattr(error.orig, "sqlite_errorname", None) == "SQLITE_NOTADB":
                raise SchemaUnknown(
                    f"the file of {self._url} is not an SQLite database; it was left as it is. Name another with "
                    "TASKWELL_DATABASE_URL or --database-url"
                ) from error
            if _is_locked(error):
                raise SchemaLocked(self._locked()) from error
            if _failure(error) in {Failure.FAULT, Failure.UNUSABLE}:
                # Rights, names, tables of somebody else: what the database says is what its operator needs.
                words = getattr(getattr(error.orig, "diag", None), "message_primary", None) or error.orig
                raise SchemaUnknown(f"the database ({self._url}) refused: {words}") from error
            raise DatabaseUnavailable from error

    def _locked(self) -> str:
        if isinstance(self._url, SqliteFile):
            return f"another program has locked the database ({self._url}): end that program, or wait until it is done"
        return (
            "nothing was migrated: other sessions hold a table locked. End long transactions (PostgreSQL lists them in "
            "pg_stat_activity), and migrate again"
        )


def _failure(error: BaseException | None) -> Failure | None:
    """The class of the driver's error that SQLAlchemy raised as `error`."""
    original = getattr(error, "orig", None)
    return failure_of(original) if isinstance(original, DRIVER_ERRORS) else None


def _is_locked(error: BaseException | None) -> bool:
    """True if another session held a lock for too long."""
    name = getattr(getattr(error, "orig", None), "sqlite_errorname", None) or ""
    return name.startswith("SQLITE_BUSY") or _failure(error) is Failure.LOCKED


def known_revisions() -> list[str]:
    """The revisions that this version can migrate to, the newest last: the dates that the modules' names begin with."""
    return sorted(module.name.partition("_")[0] for module in pkgutil.iter_modules(migrations.versions.__path__))


def alembic_config() -> "Config":
    """Alembic's configuration: the folder of the migrations, and the file name of a new one."""
    from alembic.config import Config

    config = Config(stdout=StringIO())
    config.set_main_option("script_location", "migrations:")
    config.set_main_option("file_template", "%%(year)d%%(month).2d%%(day).2d_%%(slug)s")
    return config


def _postgres_engine(url: PostgresServer) -> Engine:
    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(url.conninfo, prepare_threshold=None)

    return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool, hide_parameters=True)


def _sqlite_engine(url: SqliteFile) -> Engine:
    try:
        url.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SchemaUnknown(
            f"cannot make the folder of {url} ({error.strerror}): name another file with TASKWELL_DATABASE_URL"
        ) from error
    engine = create_engine(URL.create("sqlite", database=str(url.path)), poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: object) -> None:  # noqa: ANN401 - either driver
        connection.isolation_level = None  # else Python's driver begins and commits where it thinks fit
        set_sqlite_pragmas(connection, record)

    return engine
