"""The generated Python works with the oldest grpcio and protobuf that it is promised to work with."""

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.running import new_user, running_service, settings_for

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-oldest" / "bin" / "python"
PROGRAM = Path(__file__).with_name("oldest.py")


def answers_in_the_oldest_environment(address: str) -> Any:
    """What oldest.py printed; a warning in it is an error."""
    if not PYTHON.exists():
        pytest.fail("There is no environment of the oldest grpcio and protobuf: run 'make test', which makes it.")
    ran = subprocess.run(
        [PYTHON, "-W", "error", PROGRAM, address, new_user()],
        env={"PYTHONPATH": str(ROOT / "generated" / "python")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_generated_python_works_with_the_oldest_runtime_promised(sqlite_url: str) -> None:
    with running_service(settings_for(sqlite_url)) as address:
        answers = answers_in_the_oldest_environment(address)
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["oldest"]
    assert set(promised) == {f"{name}=={version}" for name, version in answers["versions"].items()}
    assert answers["service"] is False
    assert answers["created"]["title"] == "Buy milk"
    assert answers["created"] == answers["read"]
    assert [answers["created"]] == answers["listed"]
