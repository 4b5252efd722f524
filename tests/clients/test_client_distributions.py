"""The client's wheel and source archive, alone with the oldest dependencies: typed, working, and no service."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.distributions import ENVIRONMENT, KINDS, ROOT, distribution, install, run
from tests.running import new_user, running_service, settings_for

README = (ROOT / "clients" / "python" / "README.md").read_text()
TARGET, USER = "127.0.0.1:50051", "alice"


@pytest.fixture(scope="module", params=KINDS)
def installed(request: pytest.FixtureRequest, dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an empty environment that got the client and the oldest dependencies that it promises."""
    client = distribution(dist, "taskwell_client", request.param)
    return install(tmp_path_factory.mktemp(request.param), client, lock="client-oldest.txt")


@pytest.fixture(scope="module")
def target(sqlite_url: str) -> Iterator[str]:
    with running_service(settings_for(sqlite_url)) as address:
        yield address


def programs() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_ten_lines_create_a_task_and_list_it(installed: Path, target: str, tmp_path: Path) -> None:
    program = programs()[0]
    assert len(program.splitlines()) <= 10
    user = new_user()
    program = program.replace(TARGET, target).replace(USER, user)
    said = run(installed / "python", "-W", "error", "-c", program, cwd=tmp_path)
    [line] = said.splitlines()
    assert re.fullmatch(r"[0-9a-f-]{36} Buy milk", line)
    listed = run(installed / "taskwell", "task", "list", "--target", target, "--user", user, cwd=tmp_path)
    assert line.split()[0] in listed


@pytest.mark.parametrize("program", programs()[1:])
def test_the_readmes_other_programs_run(installed: Path, target: str, tmp_path: Path, program: str) -> None:
    run(installed / "python", "-W", "error", "-c", program.replace(TARGET, target), cwd=tmp_path)


def test_without_the_service_there_are_no_commands_but_task(installed: Path, tmp_path: Path) -> None:
    assert "task" in run(installed / "taskwell", "--help", cwd=tmp_path)
    done = subprocess.run(
        [installed / "taskwell", "serve"], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "No such command 'serve'" in done.stderr


def test_without_what_the_command_line_needs_it_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    program = "import sys; sys.modules['click'] = None; import taskwell_cli; taskwell_cli.main()"
    done = subprocess.run(
        [installed / "python", "-c", program, "task", "list", "--user", "alice"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "taskwell: click is missing: pip install './clients/python[cli]'\n"


TYPED = """
import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from taskwell_client import COMPLETE, TLS, Aborted, Client, ListTasksResponse, NewTask, Task, TaskwellError, Violation
from taskwell_client import connect, connect_async

with connect("127.0.0.1:50051", user="alice", tls=TLS("ca.pem")) as client:
    assert_type(client, Client)
    assert_type(client.as_user("bob"), Client)
    assert_type(client.create("Buy milk"), Task)
    assert_type(client.update("1", status=COMPLETE), Task)
    assert_type(client.list(), Iterator[Task])
    assert_type(client.page(), ListTasksResponse)
    assert_type([task.title for task in client.list(status=COMPLETE)], list[str])
    assert_type(client.create_many(["Buy milk", NewTask("Call Bob")]), list[Task | TaskwellError])
    assert_type(client.delete_many(["1"]), list[TaskwellError | None])
    client.delete("1")

async def main() -> None:
    async with connect_async("127.0.0.1:50051", token=lambda: asyncio.sleep(0, "token")) as client:
        assert_type(await client.get("1"), Task)
        assert_type([task.id async for task in client.list()], list[str])
        both = await asyncio.gather(client.get("1"), client.get("2"))
        assert_type(both, tuple[Task, Task])
        assert_type(await client.get_many(["1"]), list[Task | TaskwellError])
        asyncio.create_task(client.complete("1"))
        try:
            await client.delete("1", etag="1")
        except Aborted as error:
            assert_type(error.violations, tuple[Violation, ...])
"""
WRONG = """
from taskwell_client import connect

client = connect("127.0.0.1:50051", usr="alice")
client.create(4711)
client.list(status="complete")
client.list()[0]
client.get_many([1])
"""


def test_programs_that_use_it_are_checked_by_mypy(installed: Path, tmp_path: Path) -> None:
    for name, program in (("typed.py", TYPED), ("wrong.py", WRONG)):
        (tmp_path / name).write_text(program)
    mypy = (sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", tmp_path / "cache")
    done = subprocess.run(
        [*mypy, "--python-executable", installed / "python", "typed.py", "wrong.py"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.findall(r"^(\S+?):(\d+): error", done.stdout, re.MULTILINE) == [
        ("wrong.py", "4"),
        ("wrong.py", "5"),
        ("wrong.py", "6"),
        ("wrong.py", "7"),
        ("wrong.py", "8"),
    ], done.stdout + done.stderr
