"""Migrations: up and down on both databases, by many processes at once, and the checks at the start."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg.conninfo import make_conninfo
from sqlalchemy import Engine, create_engine, inspect, text

from service.db.schema import Schema, SchemaUnknown, alembic_config, known_revisions
from service.db.sqlite import SQLITE_PRAGMAS
from service.db.tables import metadata, taskwell_schema
from service.db.url import PostgresServer, parse_database_url
from service.server.startup import StartError, prepare_schema
from tests.running import Api, running_service, settings_for

ROOT = Path(__file__).parents[2]
TABLES = {"users", "tasks", "taskwell_schema"}


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
    assert tables_of(empty_database_url) == {"alembic_version", "taskwell_schema"}


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


NEWER = "29990101"


def pretend_migrated_to(database_url: str, revision: str, compatible_from: str | None = None) -> None:
    """Write what a migration that this version does not have would write."""
    with engine_of(database_url) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
        if compatible_from:
            row = {"revision": revision, "compatible_from": compatible_from}
            connection.execute(taskwell_schema.update().values(row))


def test_each_migration_names_the_oldest_compatible_revision(empty_database_url: str) -> None:
    schema = Schema(parse_database_url(empty_database_url))
    oldest = ""
    for revision in known_revisions():
        schema.up(revision)
        with engine_of(empty_database_url) as engine, engine.connect() as connection:
            stored = connection.execute(taskwell_schema.select()).one()
        assert stored.revision == revision
        assert stored.compatible_from in known_revisions()
        assert oldest <= stored.compatible_from <= revision
        oldest = stored.compatible_from


def test_a_newer_compatible_schema_is_served_and_not_changed(empty_database_url: str) -> None:
    schema = Schema(parse_database_url(empty_database_url))
    schema.up()
    pretend_migrated_to(empty_database_url, NEWER, compatible_from=schema.newest)
    for migrate in (False, True):
        prepare_schema(settings_for(empty_database_url, migrate=migrate))
    assert schema.migrate("up") == f"the schema is at {NEWER}"
    assert schema.current() == NEWER


def test_a_newer_incompatible_schema_stops_the_start_and_is_not_changed(empty_database_url: str) -> None:
    schema = Schema(parse_database_url(empty_database_url))
    schema.up()
    pretend_migrated_to(empty_database_url, NEWER, compatible_from="29980101")
    for migrate in (False, True):
        with pytest.raises(StartError, match="needs a version of Taskwell with revision 29980101 or later") as refused:
            prepare_schema(settings_for(empty_database_url, migrate=migrate))
        assert "migrate down" not in str(refused.value)
    with pytest.raises(SchemaUnknown, match="run the newer version"):
        schema.up()
    assert schema.current() == NEWER


def test_a_schema_of_another_program_stops_the_start_and_is_not_changed(empty_database_url: str) -> None:
    with engine_of(empty_database_url) as engine, engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('1975ea83b712')"))
    for migrate in (False, True):
        with pytest.raises(StartError, match=r"1975ea83b712, which is no revision of Taskwell.*search_path"):
            prepare_schema(settings_for(empty_database_url, migrate=migrate))
    assert tables_of(empty_database_url) == {"alembic_version"}


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_two_programs_share_a_database_by_search_path(empty_database_url: str) -> None:
    with engine_of(empty_database_url) as engine, engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('1975ea83b712')"))
        connection.execute(text("CREATE SCHEMA taskwell"))
    own_schema = make_conninfo(empty_database_url, options="-csearch_path=taskwell")
    prepare_schema(settings_for(own_schema, migrate=True))
    assert tables_of(own_schema) == {*TABLES, "alembic_version"}
    assert tables_of(empty_database_url) == {"alembic_version"}
    with running_service(settings_for(own_schema)) as address, grpc.insecure_channel(address) as channel:
        assert Api(channel).create("Buy milk").title == "Buy milk"


def test_a_migration_gives_up_its_place_in_the_queue_for_a_lock(
    empty_database_url: str, database_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others wait behind a migration that waits for a lock, for a second at most; then it is tried again."""
    monkeypatch.setattr("service.db.sqlite.SQLITE_PRAGMAS", ("busy_timeout = 10", *SQLITE_PRAGMAS[1:]))
    schema = Schema(parse_database_url(empty_database_url))
    schema.up("20261121")
    pauses: list[float] = []
    lock = "BEGIN IMMEDIATE" if database_kind == "sqlite" else "LOCK TABLE tasks IN SHARE UPDATE EXCLUSIVE MODE"
    with engine_of(empty_database_url) as engine, engine.connect() as holder:
        holder.exec_driver_sql(lock)

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                holder.rollback()

        monkeypatch.setattr("service.db.schema.time.sleep", pause)
        schema.up()
    assert len(pauses) == 2
    assert schema.current() == schema.newest


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_a_migration_that_never_gets_its_lock_names_the_reason(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = Schema(parse_database_url(empty_database_url), lock_timeout=0.01)
    schema.up("20261121")
    monkeypatch.setattr("service.db.schema.LOCK_PAUSE", 0.0)
    with engine_of(empty_database_url) as engine, engine.connect() as holder:
        holder.execute(text("LOCK TABLE tasks IN SHARE UPDATE EXCLUSIVE MODE"))
        with pytest.raises(SchemaUnknown, match="other sessions hold a table locked"):
            schema.up()
    assert schema.current() == "20261121"


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
