"""`taskwell users delete` on both databases."""

import json
import os
import pty
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from service.db import user_deletion
from service.db.session import open_session
from service.db.url import parse_database_url
from tests.db.conditions import unrouted
from tests.running import Api, new_user
from tests.server.starting import COMMAND, TIMEOUT, run


@pytest.fixture
def url(request: pytest.FixtureRequest, database_kind: str) -> str:
    url: str = request.getfixturevalue(f"{database_kind}_url")
    return url


@pytest.fixture
def api(request: pytest.FixtureRequest, database_kind: str) -> Api:
    channel: grpc.Channel = request.getfixturevalue(f"{database_kind}_channel")
    return Api(channel)


def users_with(url: str, user: str) -> int:
    with open_session(parse_database_url(url)) as session:
        return len(session.fetch("SELECT id FROM users WHERE id = :user", {"user": user}))


def test_a_user_is_deleted_with_all_tasks_and_nobody_else(
    url: str, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = api.as_user()
    kept = other.create("kept")
    for number in range(7):
        api.create(f"task {number}")
    answer = run("users", "delete", "--user", api.user, "--yes", "--database-url", url, folder=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    receipt = json.loads(answer.stdout)
    age = datetime.now(UTC) - datetime.fromisoformat(receipt.pop("time"))
    assert timedelta(seconds=-1) < age < timedelta(seconds=TIMEOUT)
    assert receipt == {"user": api.user, "users_deleted": 1, "tasks_deleted": 7}
    assert (users_with(url, api.user), users_with(url, other.user)) == (0, 1)
    assert not api.list().tasks
    assert other.get(kept.id) == kept
    # In chunks that are smaller than the number of tasks.
    monkeypatch.setattr(user_deletion, "_CHUNK", 2)
    for number in range(5):
        api.create(f"task {number}")
    assert user_deletion.delete_user(parse_database_url(url), api.user) == (1, 5)
    assert not api.list().tasks


def test_a_user_who_does_not_exist_is_an_error(url: str, tmp_path: Path) -> None:
    answer = run("users", "delete", "--user", new_user(), "--yes", "--database-url", url, folder=tmp_path)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "there is no user" in answer.stderr


def test_without_yes_and_a_terminal_nothing_is_deleted(url: str, api: Api, tmp_path: Path) -> None:
    task = api.create()
    answer = run("users", "delete", "--user", api.user, "--database-url", url, folder=tmp_path)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "1 tasks would be deleted for good: add --yes" in answer.stderr
    assert api.get(task.id) == task


@pytest.mark.parametrize("is_right", [False, True])
def test_on_a_terminal_the_user_id_has_to_be_typed(
    sqlite_url: str, sqlite_channel: grpc.Channel, is_right: bool
) -> None:
    api = Api(sqlite_channel)
    api.create()
    ours, theirs = pty.openpty()
    os.write(ours, f"{api.user if is_right else 'yes'}\n".encode())
    ran = subprocess.run(
        [*COMMAND, "users", "delete", "--user", api.user, "--database-url", sqlite_url],
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert "1 tasks for good? Type the user id" in ran.stderr
    assert (ran.returncode, len(api.list().tasks)) == ((0, 0) if is_right else (1, 1))


def test_deleted_content_is_not_left_in_the_file_of_sqlite(folder: Path) -> None:
    url = parse_database_url(f"sqlite:///{folder / 'taskwell.db'}")
    secret = "a secret that has to go"
    with open_session(url) as session:
        session.change("INSERT INTO users VALUES ('alice', :now)", {"now": "2026-01-01 00:00:00.000000"})
        session.change(
            "INSERT INTO tasks (user_id, id, title, description, status, version, created_at, updated_at)"
            " VALUES ('alice', '1', :title, '', 1, 1, :now, :now)",
            {"title": secret, "now": "2026-01-01 00:00:00.000000"},
        )
    with open_session(url):  # as of a server: the write-ahead log stays
        assert user_deletion.delete_user(url, "alice") == (1, 1)
        assert not [path for path in folder.iterdir() if secret.encode() in path.read_bytes()]


def test_each_statement_is_routed_to_one_shard() -> None:
    statements = [
        text
        for name, text in vars(user_deletion).items()
        if isinstance(text, str) and " FROM " in text and name.startswith("_")
    ]
    assert len(statements) == 5
    for statement in statements:
        assert unrouted(statement.replace(":user_id", "%(user_id)s").replace(":chunk", "%(chunk)s")) == []
