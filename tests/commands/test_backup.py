"""`taskwell backup` and the restore that docs/operations/backup.md describes."""

import json
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from service.db.backup import BackupFailed, back_up
from tests.running import Api
from tests.server.starting import run, serving
from tests.waiting import until


@contextmanager
def creating(api: Api) -> Iterator[list[str]]:
    """Create tasks one after the other during the block; yield the list of their titles, which grows."""
    made: list[str] = []
    stop = threading.Event()

    def create() -> None:
        while not stop.is_set():
            made.append(api.create(f"task {len(made)}").title)

    thread = threading.Thread(target=create)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()


def test_a_server_starts_on_a_backup_that_was_made_while_writes_went_on(folder: Path, tmp_path: Path) -> None:
    with serving(folder) as server, server.api("alice") as api, creating(api) as made:
        until(lambda: len(made) >= 20)
        before = len(made)
        answer = run("backup", "backup.db", folder=folder)
        assert (answer.returncode, answer.stderr) == (0, "")
        after = len(made)
        until(lambda: len(made) >= after + 5)  # writes go on
    size = (folder / "backup.db").stat().st_size
    assert json.loads(answer.stdout) == {"database": "taskwell.db", "backup": "backup.db", "bytes": size}
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copy(folder / "backup.db", restored / "taskwell.db")
    with serving(restored) as server, server.api("alice") as api:
        titles = [task.title for task in api.walk(order_by="create_time")]
        assert before <= len(titles) <= after + 1
        assert titles == [f"task {number}" for number in range(len(titles))]
        assert api.create("one more").title == "one more"


def test_an_existing_file_is_never_replaced(folder: Path) -> None:
    (folder / "backup.db").write_text("precious")
    answer = run("backup", "backup.db", folder=folder)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "backup.db exists" in answer.stderr
    assert (folder / "backup.db").read_text() == "precious"


def test_a_backup_is_readable_by_its_owner_alone_and_leaves_no_other_file(folder: Path) -> None:
    assert run("backup", "backup.db", folder=folder).returncode == 0
    assert stat.S_IMODE((folder / "backup.db").stat().st_mode) == 0o600
    assert {path.name for path in folder.iterdir()} >= {"backup.db", "taskwell.db"}
    assert not [path for path in folder.iterdir() if "partial" in path.name or path.name.startswith("backup.db-")]


def test_a_damaged_database_gives_no_backup(folder: Path) -> None:
    source = folder / "taskwell.db"
    with closing(sqlite3.connect(source)) as database:
        database.execute("INSERT INTO users VALUES ('alice', '2026-01-01 00:00:00.000000')")
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [(root,)] = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_users_1'")
        [(page_size,)] = database.execute("PRAGMA page_size")
    with source.open("r+b") as file:
        file.seek((root - 1) * page_size)
        file.write(bytes(page_size))
    with pytest.raises(BackupFailed, match="damaged"):
        back_up(source, folder / "backup.db")
    assert not list(folder.glob("*backup*"))


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["backup"], 2, "name the file"),
        (["backup", "x.db", "--database-url", "postgresql://user:s3cret@127.0.0.1:1/tasks"], 1, "pg_dump"),
        (["backup", "x.db", "--database-url", "sqlite:///none.db"], 1, "there is no file none.db"),
        (["backup", "nowhere/x.db"], 1, "cannot write to the folder nowhere"),
        (["backup", "x.db", "--grpc-adress", "x"], 2, "--grpc-adress"),
    ],
)
def test_wrong_arguments_are_one_sentence(folder: Path, arguments: list[str], status: int, words: str) -> None:
    answer = run(*arguments, folder=folder)
    assert (answer.returncode, answer.stdout, len(answer.stderr.splitlines())) == (status, "", 1), answer.stderr
    assert words in answer.stderr
    assert "s3cret" not in answer.stderr
    assert not (folder / "x.db").exists()
    assert not (folder / "none.db").exists()
