"""A Go program that is built on generated/go calls the real service: `go/main.go`, which checks every answer itself."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import new_user, running_service, settings_for

CLIENT = Path(__file__).with_name("go")
MODULES = (Path(__file__).parents[2] / "generated" / "go", CLIENT)
SLOW = 600  # s; the first build downloads and compiles gRPC
METHODS = ("CreateTask", "GetTask", "ListTasks", "UpdateTask", "CompleteTask", "DeleteTask")


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GOWORK": "off"}  # a workspace around this checkout has no say
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def go() -> str:
    found = shutil.which("go")
    if found is None:
        pytest.skip("Go is not installed: the Go client was not tested")
    return found


@pytest.fixture(scope="module")
def client(go: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built."""
    program = tmp_path_factory.mktemp("go") / "client"
    built = run(go, "build", "-buildvcs=false", "-o", program, ".", cwd=CLIENT)
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture
def address(database_url: str) -> Iterator[str]:
    with running_service(settings_for(database_url)) as address:
        yield address


@pytest.mark.timeout(SLOW)
def test_a_go_program_can_use_every_method(client: Path, address: str) -> None:
    ran = run(client, address, new_user())
    assert ran.returncode == 0, ran.stderr
    assert list(METHODS) == [line.split()[0] for line in ran.stdout.splitlines()]


@pytest.mark.timeout(SLOW)
def test_the_go_client_stops_at_a_wrong_answer(client: Path, address: str) -> None:
    ran = run(client, address, "not a user")
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith("client: CreateTask: rpc error: code = Unauthenticated")


@pytest.mark.timeout(SLOW)
@pytest.mark.parametrize("module", MODULES, ids=["generated", "client"])
def test_go_vet_finds_nothing(go: str, module: Path) -> None:
    vetted = run(go, "vet", "./...", cwd=module)
    assert vetted.returncode == 0, vetted.stderr


def test_the_go_client_is_formatted(go: str) -> None:
    formatted = run(Path(go).with_name("gofmt"), "-l", CLIENT)
    assert (formatted.returncode, formatted.stdout) == (0, ""), formatted.stderr
