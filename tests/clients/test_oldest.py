"""Clients with older generated code and the oldest supported runtime keep working."""

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.running import new_user, running_service, settings_for

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-oldest" / "bin" / "python"
GENERATOR = ROOT / ".venv-generate" / "bin" / "python"
PROGRAM = Path(__file__).with_name("oldest.py")
PROTO = "taskwell/v1/tasks.proto"


@pytest.fixture(params=["today's", "released"])
def stubs(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with stubs: today's, or those of the last release, generated from its descriptors."""
    if request.param == "today's":
        return ROOT / "generated" / "python"
    if not GENERATOR.exists():
        pytest.fail("There is no environment that generates: run 'make test', which makes it.")
    released = ROOT / "proto" / "released.binpb"
    outputs = (f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}")
    subprocess.run(
        [GENERATOR, "-m", "grpc_tools.protoc", f"--descriptor_set_in={released}", *outputs, PROTO], check=True
    )
    return tmp_path


def answers_in_the_oldest_environment(address: str, stubs: Path) -> Any:
    """Run oldest.py with warnings as errors. Returns the responses that it prints."""
    if not PYTHON.exists():
        pytest.fail("There is no environment of the oldest grpcio and protobuf: run 'make test', which makes it.")
    ran = subprocess.run(
        [PYTHON, "-W", "error", PROGRAM, address, new_user()],
        env={"PYTHONPATH": str(stubs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_service_serves_clients_of_the_oldest_runtime_promised(sqlite_url: str, stubs: Path) -> None:
    with running_service(settings_for(sqlite_url)) as address:
        answers = answers_in_the_oldest_environment(address, stubs)
    assert Path(answers["stubs"]).is_relative_to(stubs)
    assert answers["service"] is False
    created = answers["created"]
    assert (created["title"], created["description"]) == ("Buy milk", "Two litres")
    assert [created] * 2 == [answers["again"], answers["read"]]
    assert [created] == answers["listed"]
    changed = {**created, "title": "Buy oat milk"}
    for name, more in (("changed", {}), ("completed", {"status": "TASK_STATUS_COMPLETE"})):
        answer = answers[name]
        assert {**changed, **more}.items() <= {**answer, "updateTime": created["updateTime"], "etag": "1"}.items()
    assert "completeTime" in answers["completed"]
    assert answers["refused"] == ["NOT_FOUND", "TASK_NOT_FOUND"]
    for name, version in answers["versions"].items():
        [bound] = [str(each.specifier) for each in promised() if each.name == name]
        assert f">={version}".startswith(bound.split(",")[-1].removesuffix(".0")), (name, version, bound)


def promised() -> list[Requirement]:
    client = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text())
    return [Requirement(each) for each in client["project"]["dependencies"]]
