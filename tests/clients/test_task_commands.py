"""`taskwell task ...` as a process, on a real service."""

import importlib.metadata
import json
import re
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from grpc import StatusCode
from taskwell_cli.commands import taskwell
from taskwell_client import connect

from service.auth.dev_tokens import mint_token
from service.server.authentication import expected_of
from tests.clients.command_line import COMMAND, MISSING, Person
from tests.clients.scripted import scripted_server
from tests.running import new_user, running_service, settings_for
from tests.tls.issuing import HOSTS, Authority, Files


def test_a_task_through_its_life(person: Person) -> None:
    [task] = person.gets("add", "Buy milk", "--description", "Two\nlitres")
    assert task["title"] == "Buy milk"
    assert task["description"] == "Two\nlitres"
    assert [task] == person.gets("show", task["id"])
    [task] = person.gets("edit", task["id"], "--title", "Buy oat milk", "--description", "")
    assert (task["title"], task["description"], task["status"]) == ("Buy oat milk", "", "TASK_STATUS_INCOMPLETE")
    [task] = person.gets("done", task["id"], "--etag", task["etag"])
    assert task["status"] == "TASK_STATUS_COMPLETE"
    [task] = person.gets("reopen", task["id"])
    assert task["status"] == "TASK_STATUS_INCOMPLETE"
    assert person.gets("rm", task["id"], "--etag", task["etag"]) == [task]
    assert person.gets("list") == []


def test_several_tasks_are_done_and_removed_at_once(person: Person) -> None:
    ids = [person.sees("add", f"Task {number}", "-q").strip() for number in range(4)]
    assert [task["id"] for task in person.gets("complete", *ids[:2], ids[0])] == ids[:2]
    removed = person.types("delete", *ids[:3], MISSING)
    assert [line.split("\t")[0] for line in removed.stdout.splitlines()] == ids[:3]
    assert removed.stderr == f"taskwell: {MISSING}: there is no such task: 'taskwell task list' shows yours\n"
    assert removed.exit_code == 3
    assert person.sees("ls", "-q") == f"{ids[3]}\n"
    assert "--etag goes with a single task" in person.is_told("done", ids[3], MISSING, "--etag", "1", status=2)
    assert "no id of a task" in person.is_told("rm", ids[3], "1", status=2)
    assert "it is empty" in person.is_told("rm", ids[3], "", status=2)
    assert person.sees("ls", "-q") == f"{ids[3]}\n"


def test_a_title_is_read_from_standard_input(person: Person) -> None:
    def piped(text: str | bytes) -> Result:
        runner = CliRunner(env=person.environment)
        return runner.invoke(taskwell, ["task", "add", "-", "-q"], prog_name="taskwell", input=text)

    for given, title in {"Buy milk\n": "Buy milk", "Buy oat milk": "Buy oat milk", "-\r\n": "-"}.items():
        done = piped(given)
        assert done.exit_code == 0
        assert person.gets("show", done.stdout.strip())[0]["title"] == title
    for wrong in ("", "\n", "two\nlines\n", b"\xff\n", b"x" * 100_000):
        done = piped(wrong)
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert len(person.gets("list")) == 3


def test_a_list_has_fifty_unless_all_are_wanted(person: Person) -> None:
    with connect(person.environment["TASKWELL_CLIENT_TARGET"], user=person.environment["TASKWELL_CLIENT_USER"]) as user:
        made = [user.create(f"Task {number}").id for number in range(51)]
        user.complete(made[7])
    newest = person.types("list", "--json")
    assert (newest.exit_code, newest.stderr) == (0, "taskwell: there are more; --all lists them\n")
    assert made[:0:-1] == [json.loads(line)["id"] for line in newest.stdout.splitlines()]
    assert made[::-1] == [task["id"] for task in person.gets("list", "--all")]
    assert made == [task["id"] for task in person.gets("list", "--all", "--oldest-first")]
    assert made[7:8] == [task["id"] for task in person.gets("list", "--status", "complete")]
    assert len(person.gets("list", "--all", "--status", "incomplete")) == 50
    assert person.types("list", "--limit", "51", "-q").stderr == ""
    limited = person.types("ls", "-n", "3", "-q")
    assert limited.stdout.splitlines() == made[:-4:-1]
    assert limited.stderr == "taskwell: there are more; --all lists them\n"
    assert "not both" in person.is_told("list", "--all", "--limit", "3", status=2)


def test_a_create_with_a_request_id_makes_one_task(person: Person) -> None:
    request_id = "4b0f4d5e-3f1c-4f0e-9a55-0d9f3a8f7c11"
    assert person.gets("add", "Buy milk", "--request-id", request_id) == person.gets(
        "add", "Buy milk", "--request-id", request_id
    )
    assert "This request_id was used before" in person.is_told("add", "Other", "--request-id", request_id, status=4)


def test_failures_are_one_line_and_a_status_for_each_kind(person: Person, address: str) -> None:
    [task] = person.gets("add", "Buy milk")
    missing = task["id"][:-1] + ("0" if task["id"][-1] != "0" else "1")
    assert "'taskwell task list'" in person.is_told("show", missing, status=3)
    assert "task.title" in person.is_told("add", " ", status=2)
    assert "get the task again" in person.is_told("done", task["id"], "--etag", "7", status=4)
    assert "--title" in person.is_told("edit", task["id"], status=2)
    assert "not both" in person.is_told("list", "--token", "x", "--user", "y", status=2)
    assert "not both" in Person(target=address, user="x", token="y").is_told("list", status=2)
    assert "printable ASCII" in person.is_told("list", "--user", "a b", status=2)
    stranger = Person(target=address)
    assert "--user" in stranger.is_told("list", status=5)
    assert "use TLS" in stranger.is_told("list", "--target", "tasks.example:1", "--token", "x", status=2)


def test_where_no_taskwell_is_it_says_what_to_do(person: Person) -> None:
    told = person.is_told("list", "--target", "127.0.0.1:1", status=6)
    assert "cannot reach a Taskwell at 127.0.0.1:1" in told
    assert "--target" in told
    assert "refused" in told
    with scripted_server() as server:
        server.answers(StatusCode.UNIMPLEMENTED)
        assert "is not a Taskwell" in person.is_told("list", "--target", server.address, status=1)
        server.answers(StatusCode.DEADLINE_EXCEEDED)
        assert "within 3 s" in person.is_told("list", "--target", server.address, "--timeout", "3", status=6)
        server.answers(StatusCode.RESOURCE_EXHAUSTED)  # without a time: what is too large stays too large
        assert "as the script says" in person.is_told("list", "--target", server.address, status=2)
        server.answers(StatusCode.DATA_LOSS)
        assert "as the script says (DATA_LOSS)" in person.is_told("list", "--target", server.address, status=1)


def test_tls_and_a_token_by_flags_and_by_the_environment(tmp_path: Path, sqlite_url: str, authority: Authority) -> None:
    files = Files(tmp_path, authority.issue(*HOSTS))
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    secret = "what both of them know and nobody else"
    tokens = {"auth": "jwt", "jwt_secret": secret, "jwt_issuer": "https://issuer.example", "jwt_audience": "taskwell"}
    settings = settings_for(sqlite_url, **files.settings, **tokens)
    token = mint_token(secret, expected_of(settings), new_user(), "", int(time.time()), 600)
    with running_service(settings) as address:
        task = Person(target=address, token=token, tls_ca=str(ca)).gets("add", "Buy milk")
        assert task == Person().gets("list", "--target", address, "--token", token, "--tls-ca", str(ca))
        assert "--token" in Person(target=address, tls_ca=str(ca)).is_told("list", status=5)
        assert "--tls" in Person(target=address, token=token).is_told("list", status=6)


def test_wrong_words_are_refused_with_those_that_are_right(person: Person) -> None:
    done = person.types("lits")
    assert done.exit_code == 2
    assert "No such command 'lits'" in done.stderr
    done = person.types("list", "--status", "open")
    assert done.exit_code == 2
    assert "incomplete" in done.stderr


def test_help_names_every_command_and_every_exit_status(person: Person) -> None:
    shown = " ".join(person.sees("--help").split())
    for command in ("add", "list", "show", "edit", "done", "reopen", "rm"):
        assert f" {command} " in shown
    assert "0 success, 1 failure, 2 invalid option or value, 3 no such task, 4 conflict" in shown
    assert "7 the output could not be written, but what was asked for is done, 130 interrupted" in shown
    assert "(or: ls)" in shown
    version = importlib.metadata.version("taskwell-client")
    for arguments in (["--version"], ["task", "--version"]):
        printed = person.starts(COMMAND, *arguments).stdout
        assert printed == f"taskwell {importlib.metadata.version('taskwell')}\ntaskwell-client {version}\n"
    assert "TASKWELL_CLIENT_TOKEN" in person.sees("list", "--help")


LOADED = """
import sys
sys.argv = ["taskwell", "task", *sys.argv[1:]]
from taskwell_cli import main
try:
    main()
except SystemExit:
    print(*sys.modules, file=sys.stderr)
"""


def test_it_loads_nothing_of_the_service_and_for_help_not_even_grpc(person: Person) -> None:
    def loaded(*arguments: str) -> set[str]:
        return set(person.starts(sys.executable, "-c", LOADED, *arguments).stderr.split())

    modules = loaded("list")
    assert {"grpc", "click"} <= modules
    assert not {"service", "sqlalchemy", "pydantic", "uvloop", "rich"} & modules
    for light in (("list", "--help"), ("--version",)):
        assert not {"grpc", "google.protobuf", "tomllib", "asyncio"} & loaded(*light)


def completions(person: Person, line: str) -> list[str]:
    """The completions that a shell gets for an incomplete line."""
    words = {"COMP_WORDS": line, "COMP_CWORD": line.split(" ")[-1]}
    done = person.starts(COMMAND, _TASKWELL_COMPLETE="fish_complete", **words)
    assert done.stderr == ""
    return [entry.removeprefix("plain,") for entry in done.stdout.splitlines() if entry]


def test_shells_complete_commands_options_and_ids(person: Person) -> None:
    commands = [each.partition("\t")[0] for each in completions(person, "taskwell ")]
    servers = ["backup", "check", "config", "export", "health", "import", "migrate", "serve"]
    assert commands == [*servers, "task", "token", "users"]
    assert completions(person, "taskwell task re") == ["reopen\tReopen a task."]
    [status] = completions(person, "taskwell task list --s")
    assert status.startswith("--status\t")
    [task] = person.gets("add", "Buy\nmilk\x1b")
    short = task["id"][-8:]
    assert [f"{short}\tBuy\\nmilk\\x1b"] == completions(person, "taskwell task show ")
    assert [f"{short}\tBuy\\nmilk\\x1b"] == completions(person, f"taskwell task rm {short[:3]}")
    assert [f"{task['id']}\tBuy\\nmilk\\x1b"] == completions(person, f"taskwell task done {task['id'][:-1]}")
    assert completions(person, "taskwell task done x") == []


def test_bash_shows_titles_beside_ids_while_there_are_several(person: Person) -> None:
    ids = [person.sees("add", title, "-q").strip()[-8:] for title in ("Buy milk", "Call\nBob")]
    words = {"COMP_WORDS": "taskwell task show ", "COMP_CWORD": "3", "_TASKWELL_COMPLETE": "bash_complete"}
    shown = person.starts(COMMAND, **words).stdout
    assert shown.splitlines() == [f"plain,{ids[1]}  (Call\\\\nBob)", f"plain,{ids[0]}  (Buy milk)"]
    words["COMP_WORDS"] += ids[0]
    assert person.starts(COMMAND, **words).stdout.splitlines() == [f"plain,{ids[0]}"]


def test_where_the_service_is_not_there_shells_complete_no_ids() -> None:
    assert completions(Person(target="127.0.0.1:1"), "taskwell task show ") == []
    assert completions(Person(user="a b"), "taskwell task show ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_completion_for(person: Person, shell: str) -> None:
    done = person.starts(COMMAND, _TASKWELL_COMPLETE=f"{shell}_source")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_TASKWELL_COMPLETE={shell}_complete" in done.stdout


def test_both_command_lines_have_the_command(person: Person) -> None:
    [task] = person.gets("add", "Buy milk")
    for command in ([COMMAND], [sys.executable, "-m", "service"]):
        listed = person.starts(*command, "task", "list", "--json")
        assert (listed.returncode, listed.stderr) == (0, "")
        assert task == json.loads(listed.stdout)


def test_the_clients_variables_do_not_keep_a_service_from_starting(person: Person) -> None:
    shown = "".join(person.sees(command, "--help") for command in ("list", "add"))
    variables = set(re.findall(r"TASKWELL_CLIENT_[A-Z_]+", shown))
    assert len(variables) == 10
    done = person.starts(COMMAND, "config", **dict.fromkeys(variables, "1"))
    assert (done.returncode, done.stderr) == (0, "")
