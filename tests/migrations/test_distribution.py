"""Distribution of the tables on Citus, with a stand-in for its catalog (tests/sql/citus_stand_in.sql)."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from service.db.schema import Schema, SchemaUnknown
from service.db.url import parse_database_url
from service.server.startup import prepare_schema
from tests.postgres import fresh_database
from tests.running import settings_for
from tests.server.starting import run

STAND_IN = Path(__file__).parents[1] / "sql" / "citus_stand_in.sql"


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def schema(url: str) -> Schema:
    """A migrated schema, on a database with the extension."""
    schema = Schema(parse_database_url(url))
    schema.up()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(STAND_IN.read_text())
    return schema


def distribution_of(url: str) -> list[tuple[str, str, str | None]]:
    with psycopg.connect(url) as admin:
        rows = "SELECT logicalrelid::text, partmethod::text, partkey FROM pg_dist_partition ORDER BY 1"
        return admin.execute(rows).fetchall()


DISTRIBUTED = [
    ("alembic_version", "n", None),
    ("tasks", "h", "user_id with users"),
    ("taskwell_schema", "n", None),
    ("users", "h", "id with default"),
]


def test_distribute_distributes_each_table_once(url: str, schema: Schema) -> None:
    assert not schema.is_distributed()
    assert schema.distribute() == "the tables are distributed"
    assert distribution_of(url) == DISTRIBUTED
    assert schema.is_distributed()
    assert schema.distribute() == "the tables were distributed before: nothing was changed"


def test_distribute_goes_on_where_it_was_interrupted(url: str, schema: Schema) -> None:
    with psycopg.connect(url) as admin:
        admin.execute("SELECT create_distributed_table('users', 'id')")
    assert not schema.is_distributed()
    schema.distribute()
    assert distribution_of(url) == DISTRIBUTED


def test_distribute_is_refused_without_citus_or_without_tables(url: str) -> None:
    schema = Schema(parse_database_url(url))
    with pytest.raises(SchemaUnknown, match="run 'taskwell migrate up'"):
        schema.distribute()
    schema.up()
    with pytest.raises(SchemaUnknown, match="has no extension citus: run CREATE EXTENSION citus"):
        schema.distribute()
    assert not schema.is_distributed()


def test_a_server_serves_by_owner_where_the_tables_are_distributed(url: str, schema: Schema) -> None:
    assert prepare_schema(settings_for(url, database_distributed="auto")).database_distributed == "false"
    schema.distribute()
    assert prepare_schema(settings_for(url, database_distributed="auto")).database_distributed == "true"
    assert prepare_schema(settings_for(url, database_distributed="false")).database_distributed == "false"


@pytest.mark.usefixtures("schema")
def test_migrate_distribute_prints_or_runs_the_statements(url: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"TASKWELL_DATABASE_URL={url}\n")
    printed = run("migrate", "distribute", "--sql", folder=tmp_path)
    assert printed.stdout.splitlines() == [
        "SELECT create_distributed_table('users', 'id');",
        "SELECT create_distributed_table('tasks', 'user_id', colocate_with => 'users');",
        "SELECT create_reference_table('alembic_version');",
        "SELECT create_reference_table('taskwell_schema');",
    ]
    assert run("migrate", "distribute", folder=tmp_path).stdout == "the tables are distributed\n"
    assert distribution_of(url) == DISTRIBUTED
    assert "distributed over the nodes of Citus" in run("check", folder=tmp_path).stdout


def test_sqlite_cannot_be_distributed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TASKWELL_DATABASE_URL=sqlite:///taskwell.db\n")
    run("migrate", "up", folder=tmp_path)
    refused = run("migrate", "distribute", folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "SQLite cannot be distributed" in refused.stderr
    refused = run("serve", "--database-distributed", "true", folder=tmp_path)
    assert refused.returncode == 2
    assert "TASKWELL_DATABASE_DISTRIBUTED: SQLite cannot be distributed" in refused.stderr
