"""SQLite files that are locked, full, missing or not databases."""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest
from grpc import StatusCode
from sqlalchemy import text
from structlog.testing import capture_logs
from taskwell.v1 import tasks_pb2

from service.db.compiled_statement import CompiledStatement
from service.db.engine import Database
from service.db.pool import PoolSettings
from service.db.schema import Schema
from service.db.url import parse_database_url
from service.server.startup import StartError, prepare_schema
from tests.running import Api, refused, running_service, settings_for
from tests.waiting import eventually


@contextmanager
def serving(path: Path) -> Iterator[Api]:
    with running_service(settings_for(f"sqlite:///{path}")) as address, grpc.insecure_channel(address) as channel:
        yield Api(channel)


@contextmanager
def beside(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the same file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def test_a_missing_folder_of_the_sqlite_file_is_created(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "taskwell.db"
    with serving(path) as api:
        api.create()
    assert path.exists()


@pytest.mark.parametrize("name", ["a b.db", "50%.db", "%41.db", "a?b#c.db", "ü.db"])
def test_an_sqlite_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    with running_service(settings_for(f"sqlite:///{tmp_path}/{quote(name)}")):
        assert name in {path.name for path in tmp_path.iterdir()}


def test_sqlite_reads_go_on_while_another_program_writes(tmp_path: Path) -> None:
    path = tmp_path / "taskwell.db"
    with serving(path) as api, beside(path) as other:
        task = api.create()
        other.execute("BEGIN IMMEDIATE")
        assert task == api.get(task.id)


def test_an_sqlite_write_is_unavailable_while_another_program_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "taskwell.db"
    with serving(path) as api, beside(path) as other:
        task = api.create()
        other.execute("BEGIN IMMEDIATE")
        with refused(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
            api.complete(task.id)
        other.execute("ROLLBACK")
        api.complete(task.id)


def test_nothing_is_acknowledged_into_a_deleted_sqlite_log_and_a_restart_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "taskwell.db"
    with serving(path) as api:
        kept = api.create()
        path.with_name("taskwell.db-wal").unlink()
        with refused(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
            api.create()
        with refused(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
            api.get(kept.id)
    with serving(path) as again:
        assert again.as_user(api.user).get(kept.id) == kept


def test_an_sqlite_table_that_is_missing_is_unavailable_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "taskwell.db"
    with serving(path) as api, beside(path) as other:
        task = api.create()
        other.execute("ALTER TABLE tasks RENAME TO away")
        for method in (api.create, api.list, lambda: api.get(task.id), lambda: api.complete(task.id)):
            with refused(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
                method()
        other.execute("ALTER TABLE away RENAME TO tasks")
        assert api.get(task.id) == task


def test_a_full_disk_is_unavailable_and_loses_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "taskwell.db"
    monkeypatch.setattr("service.db.sqlite.SQLITE_PRAGMAS", (*pragmas(), "max_page_count = 60"))
    kept: list[tasks_pb2.Task] = []
    with serving(path) as api:
        with refused(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
            kept.extend(api.create("x" * 255, "x" * 5000) for _ in range(1000))
        assert [task.id for task in kept] == [task.id for task in api.walk(order_by="create_time")]
        api.delete(kept[0].id)
        api.create()


@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_a_file_that_is_deleted_or_replaced_is_unavailable_until_it_is_back(tmp_path: Path, fate: str) -> None:
    path, away = tmp_path / "taskwell.db", tmp_path / "away.db"
    with serving(path) as api:
        task = api.create()
        path.rename(away)
        if fate == "replaced":
            shutil.copy(away, path)
        for method in (
            api.create,
            lambda: api.get(task.id),
            lambda: api.complete(task.id),
            lambda: api.as_user().list(),
        ):
            with refused(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE") as refusal:
                method()
            assert refusal.retry_delay == 1
        assert path.exists() is (fate == "replaced")
        away.rename(path)
        assert api.get(task.id).id == task.id
        api.create()


def pragmas() -> tuple[str, ...]:
    from service.db.sqlite import SQLITE_PRAGMAS

    return SQLITE_PRAGMAS


def test_an_sqlite_trigger_of_others_is_internal_and_tells_only_an_id_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "taskwell.db"
    with serving(path) as api, capture_logs() as log, beside(path) as other:
        task = api.create("A secret title")
        other.execute("CREATE TRIGGER others BEFORE DELETE ON tasks BEGIN SELECT RAISE(ABORT, 'others'); END")
        other.execute("CREATE TRIGGER more BEFORE INSERT ON tasks BEGIN SELECT RAISE(ABORT, 'others'); END")
        for method in (lambda: api.create("A secret title"), lambda: api.delete(task.id)):
            with refused(StatusCode.INTERNAL, "INTERNAL") as refusal:
                method()
            sentence, _, error_id = refusal.message.rpartition(" ")
            assert sentence == "Something went wrong in the service; it was logged under the id"
            assert [refusal.message] == [line["message"] for line in log if error_id in str(line.get("message"))]
        assert "A secret title" not in str(log)


@pytest.mark.parametrize("content", [b"This is no database", b"\0" * 4096])
def test_a_file_that_is_not_an_sqlite_database_stops_the_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "taskwell.db"
    path.write_bytes(content)
    with pytest.raises(StartError, match="is not an SQLite database"):
        prepare_schema(settings_for(f"sqlite:///{path}"))
    assert path.read_bytes() == content


@pytest.mark.parametrize("is_migrated", [True, False])
def test_the_start_waits_for_a_file_that_another_program_has_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_migrated: bool
) -> None:
    monkeypatch.setattr("service.db.sqlite.SQLITE_PRAGMAS", ("busy_timeout = 10", *pragmas()[1:]))
    path = tmp_path / "taskwell.db"
    settings = settings_for(f"sqlite:///{path}", database_start_timeout=3600)
    if is_migrated:
        prepare_schema(settings)
    pauses: list[float] = []
    with beside(path) as other, capture_logs() as log:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")  # readers have to wait as well
        other.execute("BEGIN EXCLUSIVE")

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                other.close()

        monkeypatch.setattr("service.server.startup.time.sleep", pause)
        prepare_schema(settings)
    assert [line["event"] for line in log] == ["waiting for the database"] * 2
    assert "another program has locked the database" in log[0]["cause"]
    with serving(path) as api:
        api.create()


def test_the_start_waits_for_a_locked_file_for_a_limited_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.db.sqlite.SQLITE_PRAGMAS", ("busy_timeout = 10", *pragmas()[1:]))
    path = tmp_path / "taskwell.db"
    with beside(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StartError, match="another program has locked the database"):
            prepare_schema(settings_for(f"sqlite:///{path}", database_start_timeout=0.001))


def test_a_folder_in_place_of_the_sqlite_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot reach the database"):
        prepare_schema(settings_for(f"sqlite:///{tmp_path}", database_start_timeout=0.01))


async def test_a_statement_without_a_caller_is_interrupted(tmp_path: Path) -> None:
    url = parse_database_url(f"sqlite:///{tmp_path / 'taskwell.db'}")
    Schema(url).up()
    database = Database(url, PoolSettings(size=1, max_overflow=0))
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    running = asyncio.ensure_future(database.read(CompiledStatement(text(endless), database.dialect), {}))
    await eventually(lambda: database.connections_in_use() == 1)
    running.cancel()
    one = CompiledStatement(text("SELECT 1"), database.dialect)
    assert list(await database.read(one, {})) == [(1,)]
    await database.close()
