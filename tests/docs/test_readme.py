"""The README stays true: its tables are the code's, its programs run, its commands exist."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.address import parse_address
from service.app import _example
from service.settings import Settings
from tests.running import running_service, settings_for
from tools.tables import DOCUMENTS, LIMITING, with_tables

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


CLIENT_README = (ROOT / "client" / "README.md").read_text()
EXAMPLES_README = (ROOT / "examples" / "python" / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def test_the_tables_are_those_of_the_code() -> None:
    for document in DOCUMENTS:
        text = document.read_text()
        assert with_tables(text) == text, "run 'make tables'"
    assert "| `TASKWELL_GRPC_ADDRESS` | `127.0.0.1:50051` |" in README
    assert set(LIMITING) <= set(Settings.model_fields)
    assert "| `TASKWELL_MAX_IN_FLIGHT` |" in (ROOT / "SECURITY.md").read_text()
    assert "| NOT_FOUND | `TASK_NOT_FOUND` |" in README
    assert "| `metadata` | set | must be of that CA" in README


def test_the_python_program_runs(sqlite_url: str) -> None:
    [program] = blocks("python")
    assert len([line for line in program.splitlines() if line.strip()]) <= 12
    with running_service(settings_for(sqlite_url)) as address:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program.replace("127.0.0.1:50051", address)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert first.endswith(" Call Bob")
    assert first in rest


def test_what_serve_prints_is_what_the_readme_says() -> None:
    settings = settings_for("sqlite:///taskwell.db")
    assert f"gRPC listening on 127.0.0.1:50051\n{_example(parse_address('127.0.0.1:50051'), settings)}\n" in README


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    documents = [README, (ROOT / "CONTRIBUTING.md").read_text()]
    named = {name for text in documents for name in re.findall(r"(?:`|\$ )make ([a-z-]+)", text)}
    assert named
    assert named <= targets


def test_every_file_that_is_linked_exists() -> None:
    for path in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "client/README.md", "examples/python/README.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / path).read_text()):
            assert ((ROOT / path).parent / target).exists(), target


SECRET = "what both of them know and nobody else"
TOKENS = {"auth": "jwt", "jwt_secret": SECRET, "jwt_issuer": "https://issuer.example", "jwt_audience": "taskwell"}


@pytest.mark.parametrize("identity", [{}, TOKENS], ids=["metadata", "jwt"])
def test_the_grpcurl_sessions_go_as_they_are_written(tmp_path: Path, identity: dict[str, str]) -> None:
    session = "".join(each for each in sessions() if "-cacert" not in each and ("Bearer" in each) == bool(identity))
    assert_goes_as_written(session, tmp_path, identity)


def test_the_session_with_certificates_goes_as_it_is_written(tmp_path: Path) -> None:
    [making] = [block for block in blocks("console") if "openssl req" in block]
    made = subprocess.run(
        ["bash", "-ec", "\n".join(commands_of(making))], cwd=tmp_path, capture_output=True, check=False
    )
    assert made.returncode == 0, made.stderr
    [settings] = re.findall(r"^\$ export (TASKWELL_TLS_CERT=.*)\n\$ export (.*)", README, flags=re.MULTILINE)
    values = dict(pair.split("=") for line in settings for pair in line.split())
    named = {name.removeprefix("TASKWELL_").lower(): value for name, value in values.items()}
    files = {name: str(tmp_path / value) for name, value in named.items() if value.endswith(".pem")}
    session = "".join(each for each in sessions() if "-cacert" in each)
    assert_goes_as_written(session, tmp_path, {**named, **files})


@pytest.mark.parametrize("text", [README, CLIENT_README, EXAMPLES_README], ids=["readme", "client", "examples"])
def test_the_sessions_on_the_command_line_go_as_they_are_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "events.py").symlink_to(ROOT / "examples" / "python" / "events.py")
    [session] = [block for block in blocks("console", text) if "taskwell task add" in block or "events.jsonl" in block]
    assert_goes_as_written(session.replace(".venv/bin/taskwell", "taskwell"), tmp_path, {})


def sessions() -> list[str]:
    if not shutil.which("grpcurl"):
        pytest.skip("grpcurl is not installed: the README's grpcurl sessions were not run")
    return [block.replace("\\\n", "") for block in blocks("console") if "grpcurl" in block]


def commands_of(session: str) -> list[str]:
    return re.findall(r"^\$ (.*)", session, flags=re.MULTILINE)


def assert_goes_as_written(session: str, folder: Path, settings: dict[str, str]) -> None:
    """Run the commands of a session against a server with these settings, and compare what they print."""
    assert session
    commands = "\n".join(commands_of(session)).replace(".venv/bin/taskwell", f"{sys.executable} -m service")
    with running_service(settings_for(f"sqlite:///{folder / 'taskwell.db'}", **settings)) as address:
        done = subprocess.run(
            ["bash", "-c", commands.replace("127.0.0.1:50051", address)],
            cwd=folder,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "TASKWELL_CLIENT_TARGET": address,
                **{f"TASKWELL_{name.upper()}": value for name, value in settings.items()},
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
    written = re.sub(r"^\$ .*\n", "", session, flags=re.MULTILINE)
    assert shape_of(written) == shape_of(done.stdout)


def shape_of(text: str) -> str:
    """The text without what differs from run to run: ids, times, and how tabs are drawn."""
    text = re.sub(r"[0-9a-f-]{36}", "ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\d(T[0-9:.]+Z| \d\d:\d\d)", "TIME", text)
    return re.sub(r"\s+", " ", text).strip()


def test_the_shapes_can_differ() -> None:
    assert shape_of('{"title": "a"}') != shape_of('{"title": "b"}')
