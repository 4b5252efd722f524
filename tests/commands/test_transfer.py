"""`taskwell export` and `taskwell import` on both databases."""

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from service.db import transfer
from service.db.session import open_session
from service.db.url import parse_database_url
from service.strict_json import parse_object
from tests.distribution import migrate
from tests.postgres import fresh_database
from tests.running import Api, running_service, settings_for
from tests.server.starting import COMMAND, TIMEOUT, run
from tests.waiting import until

OTHER = {"sqlite": "postgresql", "postgresql": "sqlite"}


@pytest.fixture
def urls(tmp_path: Path, postgres: str) -> Iterator[dict[str, str]]:
    """A migrated database of either kind, for one test."""
    with fresh_database(postgres) as url:
        found = {"sqlite": f"sqlite:///{tmp_path / 'taskwell.db'}", "postgresql": url}
        for each in found.values():
            migrate(parse_database_url(each))
        yield found


def export(url: str, *arguments: str, folder: Path) -> str:
    answer = run("export", *arguments, "--database-url", url, folder=folder)
    assert (answer.returncode, answer.stderr) == (0, "")
    return answer.stdout


def import_(url: str, lines: str, *, folder: Path) -> tuple[int, dict[str, int], str]:
    """Import lines; returns the exit status, the report and the messages."""
    ran = subprocess.run(
        [*COMMAND, "import", "--database-url", url],
        input=lines,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return ran.returncode, json.loads(ran.stdout or "{}"), ran.stderr


def made(users: int = 3, tasks_each: int = 5) -> str:
    """An export that was not exported: lines of users and tasks in their order."""
    chance = random.Random(7)
    lines: list[dict[str, object]] = []
    for number in range(users):
        user = f"user-{number:05}"
        time = "2026-01-01T00:00:00.000001Z"
        lines.append({"kind": "user", "id": user, "created_at": time})
        for task in sorted(f"{chance.getrandbits(32):08x}-0000-7000-8000-000000000000" for _ in range(tasks_each)):
            lines.append({"kind": "task", "user_id": user, "id": task, "title": "title", "description": ""})
            lines[-1] |= {"status": 1, "version": 1, "request_id": None, "request_digest": None}
            lines[-1] |= {"created_at": time, "updated_at": time, "completed_at": None}
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def test_what_was_created_by_calls_is_identical_in_the_other_database(
    urls: dict[str, str], database_kind: str, tmp_path: Path
) -> None:
    source, target = urls[database_kind], urls[OTHER[database_kind]]
    request_id = "0190a5a0-0000-7000-8000-000000000001"
    with running_service(settings_for(source)) as address, grpc.insecure_channel(address) as channel:
        api = Api(channel)
        task = api.create('Milk "ü" 🥛 \n', "d" * 5000, request_id=request_id)
        api.complete(api.create("done").id)
        changed = api.update(api.create("new").id, ["title"], title="changed")
        api.as_user().create("of another")
        tasks = sorted(api.walk(), key=lambda each: str(each.id))
    lines = export(source, folder=tmp_path)
    kinds = [json.loads(line)["kind"] for line in lines.splitlines()]
    assert sorted(kinds) == ["task"] * 4 + ["user"] * 2
    whole = {"users_created": 2, "tasks_created": 4, "already_there": 0, "different": 0}
    assert import_(target, lines, folder=tmp_path) == (0, whole, "")
    assert export(target, folder=tmp_path) == lines
    again = {"users_created": 0, "tasks_created": 0, "already_there": 4, "different": 0}
    assert import_(target, lines, folder=tmp_path) == (0, again, "")
    assert export(target, "--user", api.user, folder=tmp_path).count("\n") == 4
    with running_service(settings_for(target)) as address, grpc.insecure_channel(address) as channel:
        moved = Api(channel, api.user)
        assert sorted(moved.walk(), key=lambda each: str(each.id)) == tasks
        assert moved.create('Milk "ü" 🥛 \n', "d" * 5000, request_id=request_id) == task
        assert moved.update(changed.id, ["title"], title="x").etag != changed.etag


def test_pages_of_many_users_and_tasks_are_whole(
    urls: dict[str, str], database_kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = made(users=7, tasks_each=5) + made(users=3, tasks_each=0).replace("user-", "without-tasks-")
    url = urls[database_kind]
    assert import_(url, lines, folder=tmp_path)[1]["tasks_created"] == 35
    monkeypatch.setattr(transfer, "PAGE", 3)
    with open_session(parse_database_url(url)) as session:
        rows = list(transfer.exported(session))
        of_one = list(transfer.exported(session, "user-00002"))
    wanted = [transfer.parsed(json.loads(line)) for line in sorted(lines.splitlines(), key=key_of)]
    assert rows == wanted
    assert of_one == [row for row in wanted if "user-00002" in row[1].values()]


def key_of(line: str) -> tuple[str, str]:
    row = json.loads(line)
    return (row["id"], "") if row["kind"] == "user" else (row["user_id"], row["id"])


def test_an_import_that_was_killed_goes_on_without_a_duplicate(
    urls: dict[str, str], database_kind: str, tmp_path: Path
) -> None:
    url, lines = urls[database_kind], made(users=300, tasks_each=10)
    first, middle = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    with subprocess.Popen([*COMMAND, "import", "--database-url", url], cwd=tmp_path, stdin=subprocess.PIPE) as killed:
        assert killed.stdin
        killed.stdin.write(first.encode())
        killed.stdin.flush()
        with open_session(parse_database_url(url)) as session:
            until(lambda: session.fetch("SELECT count(*) FROM tasks") > [(0,)])
        killed.kill()
    status, report, _ = import_(url, first + middle, folder=tmp_path)
    assert (status, report["different"]) == (0, 0)
    assert report["already_there"] > 0
    assert report["tasks_created"] + report["already_there"] == 3000
    assert export(url, folder=tmp_path) == lines


def test_tasks_that_are_there_with_other_content_are_named_and_left(
    urls: dict[str, str], database_kind: str, tmp_path: Path
) -> None:
    url, lines = urls[database_kind], made(users=1, tasks_each=2)
    import_(url, lines, folder=tmp_path)
    changed = lines.replace('"title":"title"', '"title":"other"', 1)
    status, report, said = import_(url, changed, folder=tmp_path)
    assert (status, report["already_there"], report["different"]) == (1, 1, 1)
    assert "1 tasks are there with other content" in said
    assert json.loads(changed.splitlines()[1])["id"] in said
    assert export(url, folder=tmp_path) == lines


@pytest.mark.parametrize(
    ("find", "replace", "words"),
    [
        ('"version":1', '"version":true', "version"),
        ('"version":1', '"version":1,"colour":"red"', "the field colour is unknown"),
        ('"title":"title"', '"title":null', "title"),
        ('"title":"title"', r'"title":"\u0000"', "title"),
        ('"title":"title"', r'"title":"\ud800"', "title"),
        ('"updated_at":"2026-01-01T', '"updated_at":"2026-13-01T', "updated_at"),
        ('"kind":"task"', '"kind":"tasks"', "kind"),
        ('"completed_at":null}', '"completed_at', "is not JSON"),
        ('"user_id":"user-00000"', '"user_id":"a b"', "user id"),
    ],
)
def test_a_line_that_is_wrong_is_refused(find: str, replace: str, words: str) -> None:
    _, line, *_ = made(users=1, tasks_each=1).splitlines()
    assert find in line
    with pytest.raises(ValueError, match=words):
        transfer.parsed(parse_object(line.replace(find, replace).encode()))


def test_the_lines_before_a_wrong_one_are_imported(urls: dict[str, str], tmp_path: Path) -> None:
    lines = made(users=1, tasks_each=2)
    status, _, said = import_(urls["sqlite"], f"{lines}{{}}\n", folder=tmp_path)
    assert (status, said.count("\n")) == (1, 1)
    assert "line 4: the field kind must be user or task. The lines before it are imported" in said
    assert export(urls["sqlite"], folder=tmp_path) == lines


def test_an_export_of_a_user_who_does_not_exist_fails(sqlite_url: str, tmp_path: Path) -> None:
    answer = run("export", "--user", "nobody", "--database-url", sqlite_url, folder=tmp_path)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "there is no user 'nobody'" in answer.stderr
