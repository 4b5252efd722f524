"""Migrations: up and down on both databases, by many processes at once, and the checks at the start."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect

from service.db.schema import Schema, alembic_config, known_revisions
from service.db.tables import metadata
from service.db.url import PostgresServer, parse_database_url
from service.server.startup import StartError, prepare_schema
from tests.running import settings_for

ROOT = Path(__file__).parents[2]
TABLES = {"users", "tasks"}


@contextmanager
def engine_of(database_url: str) -> Iterator[Engine]:
    url = parse_database_url(database_url)
    engine = (
        create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url.conninfo))
        if isinstance(url, PostgresServer)
        else create_engine(database_url)
    )
    try:
        yield engine
    finally:
        engine.dispose()


def tables_of(database_url: str) -> set[str]:
    with engine_of(database_url) as engine:
        return set(inspect(engine).get_table_names())


def test_every_migration_runs_up_and_down(empty_database_url: str) -> None:
    schema = Schema(parse_database_url(empty_database_url))
    assert schema.current() is None
    for revision in reversed(list(script().walk_revisions())):
        schema.up(revision.revision)
        assert revision.revision == schema.current()
        schema.down("-1")
        assert revision.down_revision == schema.current()
        schema.up(revision.revision)
    assert tables_of(empty_database_url) == {*TABLES, "alembic_version"}
    schema.down("base")
    assert schema.current() is None
    assert tables_of(empty_database_url) == {"alembic_version"}


def test_the_migrations_make_the_tables_that_the_service_declares(empty_database_url: str) -> None:
    schema = Schema(parse_database_url(empty_database_url))
    schema.up()
    schema.check()


def test_the_migrations_name_constraints_and_indexes_as_the_service_does(empty_database_url: str) -> None:
    Schema(parse_database_url(empty_database_url)).up()
    with engine_of(empty_database_url) as engine:
        inspector = inspect(engine)
        found = {
            constraint["name"]
            for table in TABLES
            for constraint in (
                inspector.get_pk_constraint(table),
                *inspector.get_foreign_keys(table),
                *inspector.get_unique_constraints(table),
                *inspector.get_check_constraints(table),
                *(index for index in inspector.get_indexes(table) if not index.get("duplicates_constraint")),
            )
        }
    known = {each.name for table in metadata.tables.values() for each in table.constraints}
    known |= {index.name for table in metadata.tables.values() for index in table.indexes}
    assert known == found


def test_migrating_up_twice_changes_nothing(empty_database_url: str) -> None:
    schema = Schema(parse_database_url(empty_database_url))
    schema.up()
    schema.up()
    assert schema.newest == schema.current()


def test_migrations_are_dated_and_named_for_their_change() -> None:
    revisions = list(script().walk_revisions())
    assert [revision.revision for revision in reversed(revisions)] == known_revisions()
    assert script().get_heads() == known_revisions()[-1:]
    for revision in revisions:
        assert re.fullmatch(rf"{revision.revision}_[a-z_]+\.py", Path(revision.path).name)
        assert re.fullmatch(r"20\d{6}", revision.revision)
        assert revision.doc


def test_twenty_processes_that_migrate_at_once_migrate_once(empty_database_url: str) -> None:
    command = [sys.executable, "-m", "tests.migrations.at_once", "20", empty_database_url]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert tables_of(empty_database_url) == {*TABLES, "alembic_version"}


def test_an_old_schema_on_postgresql_stops_the_start_without_migrate(
    empty_database_url: str, database_kind: str
) -> None:
    if database_kind == "sqlite":
        prepare_schema(settings_for(empty_database_url))
    else:
        with pytest.raises(StartError, match="run 'taskwell migrate up', or start with --migrate"):
            prepare_schema(settings_for(empty_database_url))
        assert not tables_of(empty_database_url)
        prepare_schema(settings_for(empty_database_url, migrate=True))
    assert tables_of(empty_database_url) >= TABLES


def test_a_newer_schema_stops_the_start_and_is_not_changed(empty_database_url: str) -> None:
    url = parse_database_url(empty_database_url)
    schema = Schema(url)
    schema.up()
    with schema._connection(begins=True) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '29990101'")
        connection.commit()
    for migrate in (False, True):
        with pytest.raises(StartError, match="29990101"):
            prepare_schema(settings_for(empty_database_url, migrate=migrate))
    assert schema.current() == "29990101"


def test_a_database_with_an_encoding_other_than_utf8_stops_the_start(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            url = postgres.replace("/postgres?", "/latin?")
            with pytest.raises(StartError, match="encoding is LATIN1, it must be UTF8"):
                prepare_schema(settings_for(url, migrate=True))
        finally:
            admin.execute("DROP DATABASE latin WITH (FORCE)")


def script() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())
