"""Hostile arguments and streams of the command line: one line, a documented exit status, and nothing done twice."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from taskwell_cli.commands import task as command_group
from taskwell_cli.commands import taskwell
from taskwell_client import connect

from tests.clients.command_line import COMMAND, MISSING, Person

ESC = "\x1b[2J\x1b]0;title\x07"
SURROGATE = "\udce9"  # a byte that is not UTF-8, as Python passes it on
HUGE = "x" * 131_000  # the longest argument that Linux takes

CASES: list[tuple[str, list[str], int]] = [
    ("no command", [], 2),
    ("an empty command", [""], 2),
    ("a command of control characters", [ESC], 2),
    ("an unknown option", ["list", "--" + ESC], 2),
    ("a huge command", [HUGE], 2),
    ("no title", ["add"], 2),
    ("an empty title", ["add", ""], 2),
    ("a blank title", ["add", " \t "], 2),
    ("a title of a line end", ["add", "\n"], 2),
    ("a title that is not UTF-8", ["add", SURROGATE], 2),
    ("a title of half a character", ["add", "\ud800"], 2),
    ("a huge title", ["add", HUGE], 2),
    ("two titles", ["add", "Buy", "milk"], 2),
    ("a title with a NUL", ["add", "\0"], 2),
    ("a title like an option", ["add", "--all"], 2),
    ("a description that is not UTF-8", ["add", "a", "--description", SURROGATE], 2),
    ("a huge description", ["add", "a", "--description", HUGE], 2),
    ("a description without a value", ["add", "a", "--description"], 2),
    ("an empty request id", ["add", "a", "--request-id", ""], 2),
    ("a request id that is no UUID", ["add", "a", "--request-id", "1"], 2),
    ("the nil request id", ["add", "a", "--request-id", "00000000-0000-0000-0000-000000000000"], 2),
    ("a request id that is not UTF-8", ["add", "a", "--request-id", SURROGATE], 2),
    ("no id", ["rm"], 2),
    ("an empty id", ["rm", ""], 2),
    ("an empty id behind a good one", ["rm", "ID", ""], 2),
    ("an id that is not UTF-8", ["rm", SURROGATE], 2),
    ("an id of control characters", ["rm", ESC], 2),
    ("a huge id", ["rm", HUGE], 2),
    ("a pattern for an id", ["rm", "*"], 2),
    ("an id of dashes", ["rm", "--", "----"], 3),
    ("an id of all tasks", ["rm", "0"], 2),
    ("a path for an id", ["rm", "../../etc/passwd"], 2),
    ("an id that is missing", ["rm", MISSING], 3),
    ("a short id that is missing", ["rm", "fffffff0"], 3),
    ("an id with blanks", ["rm", f" {MISSING} "], 2),
    ("an empty etag", ["rm", "ID", "--etag", ""], 2),
    ("an etag that is not UTF-8", ["rm", "ID", "--etag", SURROGATE], 2),
    ("an etag of control characters", ["rm", "ID", "--etag", ESC], 4),
    ("a huge etag", ["rm", "ID", "--etag", HUGE], 2),
    ("an etag for two", ["rm", "ID", MISSING, "--etag", "1"], 2),
    ("nothing to change", ["edit", "ID"], 2),
    ("an empty new title", ["edit", "ID", "--title", ""], 2),
    ("an unknown status", ["list", "--status", ESC], 2),
    ("an empty status", ["list", "--status", ""], 2),
    ("no limit", ["list", "--limit", "0"], 2),
    ("a negative limit", ["list", "--limit", "-1"], 2),
    ("a limit that is no number", ["list", "--limit", "many"], 2),
    ("an empty limit", ["list", "--limit", ""], 2),
    ("an empty target", ["list", "--target", ""], 2),
    ("a URL for a target", ["list", "--target", "http://127.0.0.1:8080"], 2),
    ("a target with a line end", ["list", "--target", "localhost:1\n"], 2),
    ("a target of control characters", ["list", "--target", ESC], 2),
    ("a target that is not UTF-8", ["list", "--target", SURROGATE], 2),
    ("a target without a service", ["list", "--target", "127.0.0.1:1"], 6),
    ("an unknown scheme of a target", ["list", "--target", "gopher://a", "--timeout", "5"], 6),
    ("an empty user", ["list", "--user", ""], 2),
    ("a user of control characters", ["list", "--user", ESC], 2),
    ("a huge user", ["list", "--user", HUGE], 2),
    ("an empty token", ["list", "--token", ""], 2),
    ("a token with a line end", ["list", "--token", "secret\n"], 2),
    ("an empty timeout", ["list", "--timeout", ""], 2),
    ("an infinite timeout", ["list", "--timeout", "inf"], 2),
    ("a timeout that is no number", ["list", "--timeout", "nan"], 2),
    ("a negative timeout", ["list", "--timeout", "-1"], 2),
    ("a huge timeout", ["list", "--timeout", "1e300"], 2),
    ("an empty certificate", ["list", "--tls-ca", ""], 2),
    ("a certificate that is missing", ["list", "--tls-ca", "/nowhere/" + ESC], 2),
    ("a folder for a certificate", ["list", "--tls-ca", "/"], 2),
    ("a certificate without its key", ["list", "--tls-cert", __file__], 2),
    ("an empty profile", ["list", "--profile", ""], 2),
    ("an unknown profile", ["list", "--profile", ESC], 2),
]


def options_of(command: click.Command) -> list[click.Option]:
    options = [each for each in command.params if isinstance(each, click.Option) and not each.is_flag]
    assert {"--target", "--user", "--timeout"} <= {each.opts[-1] for each in options}
    return options


@pytest.fixture
def kept(person: Person) -> Any:
    """The only task of the person."""
    [task] = person.gets("add", "Buy milk")
    return task


@pytest.mark.parametrize(("arguments", "status"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_hostile_arguments_are_one_line_and_a_status(
    person: Person, kept: Any, arguments: list[str], status: int
) -> None:
    done = person.types(*(kept["id"] if each == "ID" else each for each in arguments))
    assert isinstance(done.exception, SystemExit)
    assert (done.exit_code, done.stdout) == (status, ""), done.stderr
    if arguments:
        [line] = done.stderr.splitlines()
        assert line.startswith("taskwell: ")
        assert line.isprintable()
        assert len(line) < 1100
        assert "secret" not in line
    assert person.gets("list") == [kept]


@pytest.mark.parametrize("name", sorted(command_group.commands))
def test_an_option_that_is_empty_is_an_error_unless_empty_is_a_value(person: Person, kept: Any, name: str) -> None:
    command = command_group.commands[name]
    given = [kept["id"] for each in command.params if isinstance(each, click.Argument)]
    for option in options_of(command):
        if option.name == "description":  # an empty one is a value
            continue
        told = person.is_told(name, *given, option.opts[-1], "", status=2)
        assert option.opts[-1] in told
    assert person.gets("list") == [kept]


@pytest.mark.parametrize("variable", ["TARGET", "USER", "TOKEN", "TLS_CA", "TIMEOUT", "PROFILE", "TLS"])
def test_hostile_variables_are_one_line_and_a_status(address: str, variable: str) -> None:
    for value in (ESC, SURROGATE):
        environment = {"target": address, **({} if variable == "TOKEN" else {"user": "alice"})}
        person = Person(**{**environment, variable.lower(): value})
        assert person.is_told("list", status=2).isprintable()


def starts(person: Person, *arguments: str | bytes, **streams: Any) -> tuple[int, str, str]:
    """Run the command as a process. Returns its exit status and what it wrote."""
    extra = streams.pop("environment", {})
    process = subprocess.run(
        [COMMAND, "task", *arguments],
        env={"PATH": os.environ["PATH"], **person.environment, **extra},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **streams},
        timeout=60,
        check=False,
    )
    return process.returncode, (process.stdout or b"").decode("latin-1"), (process.stderr or b"").decode()


def titles(person: Person) -> list[str]:
    with connect(person.environment["TASKWELL_CLIENT_TARGET"], user=person.environment["TASKWELL_CLIENT_USER"]) as user:
        return [task.title for task in user.list(oldest_first=True)]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_cannot_encode_a_title_shows_it_escaped(person: Person, encoding: str) -> None:
    status, printed, told = starts(person, "add", "Café 日本", environment={"PYTHONIOENCODING": encoding})
    shown = {"ascii": r"Caf\xe9 \u65e5\u672c", "latin-1": r"Café \u65e5\u672c"}[encoding]
    assert (status, printed.split("\t")[1], told) == (0, shown, "")
    if encoding == "ascii":
        status, printed, told = starts(person, "list", "--json", environment={"PYTHONIOENCODING": encoding})
        assert (status, told) == (0, "")
        assert r'"Caf\u00e9 \u65e5\u672c"' in printed
    assert titles(person) == ["Café 日本"]


def test_an_argument_in_another_encoding_is_refused(person: Person) -> None:
    for arguments in ((b"add", b"Caf\xe9"), (b"list", b"--user", b"\xe9")):
        status, printed, told = starts(person, *arguments)
        assert (status, printed) == (2, "")
        assert told.startswith(f"taskwell: argument {1 + len(arguments)} is not valid text")
        assert len(told.splitlines()) == 1
    assert titles(person) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_the_output_says_that_the_task_was_made(person: Person) -> None:
    with Path("/dev/full").open("wb") as full:
        status, _, told = starts(person, "add", "Buy milk", stdout=full)
        assert status == 7
        [line] = told.splitlines()
        assert line.startswith("taskwell: cannot write to standard output: No space left on device; what was asked for")
        assert titles(person) == ["Buy milk"]
        for arguments in (("list",), ("--help",)):
            status, _, told = starts(person, *arguments, stdout=full)
            assert (status, told) == (7, "taskwell: cannot write to standard output: No space left on device\n")
        status, _, told = starts(person, "rm", line.split()[-1], stdout=full, stderr=full)
        assert (status, told) == (7, "")
    assert titles(person) == []


def test_a_reader_that_is_gone_is_no_traceback(person: Person) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        status, _, told = starts(person, "add", "Buy milk", stdout=pipe)
        assert (status, len(told.splitlines())) == (7, 1)
        assert "what was asked for is done" in told
        assert starts(person, "list", stdout=pipe)[::2] == (7, "")
    assert titles(person) == ["Buy milk"]


def closed(person: Person, redirection: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-c", f'"$0" task "$@" {redirection}', str(COMMAND), *arguments],
        env={"PATH": os.environ["PATH"], **person.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def test_closed_streams_are_no_traceback(person: Person) -> None:
    status, told = closed(person, ">&-", "add", "Buy milk")
    assert (status, len(told.splitlines())) == (1, 1)
    assert "nothing was done" in told
    assert titles(person) == []
    assert closed(person, ">&- 2>&-", "add", "Buy milk") == (1, "")
    status, told = closed(person, "<&-", "add", "-")
    assert (status, len(told.splitlines())) == (2, 1)
    assert titles(person) == []
    status, printed = closed(person, "2>&- <&-", "add", "Buy milk", "-q")
    assert (status, len(printed)) == (0, 37)
    assert closed(person, "2>&-", "show", MISSING) == (3, "")
    assert titles(person) == ["Buy milk"]


def test_an_interrupt_is_one_line(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Sequence[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr("taskwell_client.Client.list", interrupted)
    done = CliRunner(env=person.environment).invoke(taskwell, ["task", "list"], prog_name="taskwell")
    assert (done.exit_code, done.stderr.strip()) == (130, "taskwell: interrupted")
