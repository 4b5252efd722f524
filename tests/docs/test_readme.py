"""The README stays true: its tables are the code's, its programs run, its commands exist."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.address import parse_address
from service.config.settings import Settings
from service.server.announcements import curl_example, grpcurl_example
from tests.docs.sessions import ROOT, TOKENS, assert_goes_as_written, blocks, shape_of, with_certificates
from tests.running import running_service, settings_for
from tools.tables import DOCUMENTS, LIMITING, with_tables

README = (ROOT / "README.md").read_text()


CLIENT_README = (ROOT / "clients" / "python" / "README.md").read_text()
EXAMPLES_README = (ROOT / "examples" / "python" / "README.md").read_text()


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
    [program] = blocks(README, "python")
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
    grpc, rest = "127.0.0.1:50051", "127.0.0.1:8080"
    assert (
        f"gRPC listening on {grpc}\n{grpcurl_example(parse_address(grpc), settings)}\n"
        f"REST listening on {rest}\n{curl_example(parse_address(rest), settings)}\n"
    ) in README
    assert f"TASKWELL_REST_ADDRESS ?= {rest}\n" in (ROOT / "Makefile").read_text()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    documents = [README, (ROOT / "CONTRIBUTING.md").read_text()]
    named = {name for text in documents for name in re.findall(r"(?:`|\$ )make ([a-z-]+)", text)}
    assert named
    assert named <= targets


def test_every_file_that_is_linked_exists() -> None:
    for path in (
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/guide/debugging.md",
        "clients/python/README.md",
        "examples/python/README.md",
    ):
        document = ROOT / path
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("identity", [{}, TOKENS], ids=["metadata", "jwt"])
def test_the_grpcurl_sessions_go_as_they_are_written(tmp_path: Path, identity: dict[str, str]) -> None:
    session = "".join(each for each in sessions() if "-cacert" not in each and ("Bearer" in each) == bool(identity))
    assert_goes_as_written(session, tmp_path, identity)


def test_the_session_with_certificates_goes_as_it_is_written(tmp_path: Path) -> None:
    settings = with_certificates(README, tmp_path)
    session = "".join(each for each in sessions() if "-cacert" in each)
    assert_goes_as_written(session, tmp_path, settings)


def test_the_session_over_rest_goes_as_it_is_written(tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed: the README's session over REST was not run")
    session = "".join(block for block in blocks(README, "console") if "127.0.0.1:8080/v1" in block)
    assert session.count("$ curl") >= 6
    assert_goes_as_written(session, tmp_path, {})


@pytest.mark.parametrize("text", [README, CLIENT_README, EXAMPLES_README], ids=["readme", "client", "examples"])
def test_the_sessions_on_the_command_line_go_as_they_are_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "events.py").symlink_to(ROOT / "examples" / "python" / "events.py")
    [session] = [block for block in blocks(text, "console") if "taskwell task add" in block or "events.jsonl" in block]
    assert_goes_as_written(session, tmp_path, {})


def sessions() -> list[str]:
    if not shutil.which("grpcurl"):
        pytest.skip("grpcurl is not installed: the README's grpcurl sessions were not run")
    return [block for block in blocks(README, "console") if "grpcurl" in block]


def test_the_shapes_can_differ() -> None:
    assert shape_of('{"title": "a"}') != shape_of('{"title": "b"}')
