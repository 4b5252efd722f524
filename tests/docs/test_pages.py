"""The pages stay true: their programs run, their commands are fit to be pasted, and the things that they name exist."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.__main__ import COMMANDS
from service.address import parse_address
from service.server.announcements import curl_example, grpcurl_example
from tests.docs.pages import PAGES, ROOT, blocks, scripts
from tests.docs.sessions import SHELLS
from tests.running import running_service, settings_for

MAKEFILE = (ROOT / "Makefile").read_text()
README = PAGES["README.md"]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", "docs/guide/python.md"])
def test_the_python_program_runs(page: str, tmp_path: Path) -> None:
    [program] = blocks(PAGES[page], "python")
    with running_service(settings_for(f"sqlite:///{tmp_path / 'taskwell.db'}")) as address:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program.replace("127.0.0.1:50051", address)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Call Bob" in done.stdout.splitlines()[-1]


def test_serve_prints_what_the_readme_says() -> None:
    settings = settings_for("sqlite:///taskwell.db")
    grpc, rest = "127.0.0.1:50051", "127.0.0.1:8080"
    assert (
        f"gRPC listening on {grpc}\n{grpcurl_example(parse_address(grpc), settings)}\n"
        f"REST listening on {rest}\n{curl_example(parse_address(rest), settings)}\n"
    ) in README
    assert f"TASKWELL_REST_ADDRESS ?= {rest}\n" in MAKEFILE


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
    named = {
        name for text in PAGES.values() for name in re.findall(r"(?:`|\$ |^ *)make ([a-z-]+)", text, flags=re.MULTILINE)
    }
    assert {"run", "test", "check"} <= named
    assert named <= targets


def test_every_command_is_on_the_page_of_the_command_line() -> None:
    named = set(re.findall(r"^\| `taskwell ([a-z]+)", PAGES["docs/guide/cli.md"], flags=re.MULTILINE))
    assert named == {*COMMANDS} - {"supervise", "work"}  # these two are for the supervisor


def test_every_module_of_the_service_is_on_the_page_of_the_layout() -> None:
    page = PAGES["docs/architecture/layout.md"]
    modules = {path.name for path in (ROOT / "service").iterdir()} - {"__init__.py", "__pycache__"}
    assert {name for name in modules if f" {name}" not in page} == set()


def test_every_file_that_is_named_exists() -> None:
    roots = "|".join(("service", "tests", "tools", "clients", "docs", "proto", "generated", "migrations", "examples"))
    named = {
        (page, name)
        for page, text in PAGES.items()
        if page != "CHANGELOG.md"  # it names files of earlier versions
        for name in re.findall(rf"`((?:{roots})/[\w./-]+?)/?`", text)
    }
    assert ("docs/architecture/call.md", "service/rpc/policy.py") in named
    assert {each for each in named if not (ROOT / each[1]).exists() and "YYYY" not in each[1]} == set()


@pytest.mark.parametrize("shell", SHELLS)
def test_every_script_is_one_to_the_shell(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed: the scripts of the documents were not read by it")
    for page, script in scripts():
        read = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
        assert read.returncode == 0, f"{page}: {read.stderr}"


def test_every_script_can_be_pasted_into_zsh() -> None:
    complaints = [(page, complaint, script) for page, script in scripts() for complaint in complaints_about(script)]
    assert not complaints


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("make run   # starts the service", "a comment"),
        ("curl http://127.0.0.1:8080/v1/tasks?pageSize=1", "a pattern"),
        ("curl http://127.0.0.1:8080/v1/tasks/$ID:complete", "a modifier"),
        ('curl "http://127.0.0.1:8080/v1/tasks/$ID:complete"', "a modifier"),
        ("$NEW -subj /CN=CA", "a command in a variable"),
    ],
)
def test_traps_of_zsh_are_found(script: str, complaint: str) -> None:
    assert complaints_about(script) == [complaint]


def test_plain_scripts_are_no_traps() -> None:
    assert (
        complaints_about("curl 'http://127.0.0.1/v1/tasks?pageSize=1' \"http://127.0.0.1/v1/tasks/${ID}:complete\"")
        == []
    )


def complaints_about(script: str) -> list[str]:
    """Reasons why a script does not do in zsh as it does in bash, when it is pasted at a prompt."""
    without_quoted = re.sub(r"'[^']*'|\"[^\"]*\"", "", script)
    found = {
        "a comment": bool(re.search(r"(^|\s)#", without_quoted, flags=re.MULTILINE)),
        "a pattern": bool(
            re.search(r"[?\[]|(?<!/)\*", without_quoted)
        ),  # with no match it is an error; dist/*.whl has one
        "a modifier": bool(re.search(r"\$\w+:", re.sub(r"'[^']*'", "", script))),
        "a command in a variable": bool(re.search(r"^\s*\$\w", script, flags=re.MULTILINE)),
    }
    return [complaint for complaint, is_found in found.items() if is_found]
