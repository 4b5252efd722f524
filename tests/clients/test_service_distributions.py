"""The wheels and the source archives are each a whole service without the checkout: it migrates, serves and stops."""

import json
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import grpc
import pytest

from tests.clients.distributions import ENVIRONMENT, KINDS, ROOT, distribution, install, run
from tests.running import Api

CLIENT = ROOT / "clients" / "python"
ORIGINS = """
import json, migrations, service, sys, taskwell.v1, taskwell_cli, taskwell_client
modules = (migrations, service, taskwell.v1, taskwell_cli, taskwell_client)
json.dump({module.__name__: module.__file__ for module in modules}, sys.stdout)
"""


@pytest.fixture(scope="module", params=KINDS)
def installed(request: pytest.FixtureRequest, dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an empty environment that got service and client, from wheels or from source archives."""
    distributions = [distribution(dist, project, request.param) for project in ("taskwell_client", "taskwell")]
    return install(tmp_path_factory.mktemp(request.param), *distributions, lock="service.txt")


@contextmanager
def serving(installed: Path, folder: Path, *arguments: str) -> Iterator[str]:
    """Run `taskwell serve` in a folder. Yields its address; SIGTERM must then end it with status 0."""
    process = subprocess.Popen(
        [installed / "taskwell", "serve", "--grpc-address", "127.0.0.1:0", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        announcement = process.stdout.readline()
        assert announcement.startswith("gRPC listening on "), announcement
        yield announcement.split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 0


def test_the_wheels_hold_all_that_is_needed_and_nothing_else(dist: Path) -> None:
    packages = {
        "taskwell": [ROOT / "service", ROOT / "migrations"],
        "taskwell_client": [
            CLIENT / "src" / "taskwell_client",
            CLIENT / "src" / "taskwell_cli",
            ROOT / "generated" / "python" / "taskwell",
        ],
    }
    for project in packages:
        wheel = ZipFile(distribution(dist, project, "wheel"))
        held = {each for each in wheel.namelist() if ".dist-info/" not in each}
        needed = {
            str(path.relative_to(package.parent))
            for package in packages[project]
            for path in package.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert needed == held
        assert {"taskwell": "migrations/env.py", "taskwell_client": "taskwell/v1/taskwell.protoset"}[project] in held


def test_both_wheels_are_of_one_version_and_the_service_asks_for_that_one() -> None:
    service, client = (tomllib.loads((folder / "pyproject.toml").read_text()) for folder in (ROOT, CLIENT))
    version = service["project"]["version"]
    assert version == client["project"]["version"]
    assert f"taskwell-client[cli]=={version}" in service["project"]["dependencies"]


def test_the_wheel_holds_the_openapi_document_itself(dist: Path) -> None:
    document = (ROOT / "generated" / "openapi" / "taskwell.v1.json").read_bytes()
    assert ZipFile(distribution(dist, "taskwell", "wheel")).read("service/rest/assets/openapi.json") == document


def test_an_installed_service_does_not_look_into_the_checkout(installed: Path, tmp_path: Path) -> None:
    origins = json.loads(run(installed / "python", "-c", ORIGINS, cwd=tmp_path))
    for origin in origins.values():
        assert Path(origin).is_relative_to(installed.parent)


def test_an_installed_service_serves_from_an_empty_folder_and_keeps_its_tasks(installed: Path, tmp_path: Path) -> None:
    with serving(installed, tmp_path) as address, grpc.insecure_channel(address) as channel:
        api = Api(channel)
        task = api.create("Buy milk")
    with serving(installed, tmp_path) as address, grpc.insecure_channel(address) as channel:
        assert task == Api(channel, api.user).get(task.id)


def test_an_installed_service_serves_with_several_workers(installed: Path, tmp_path: Path) -> None:
    with serving(installed, tmp_path, "--workers", "2") as address, grpc.insecure_channel(address) as channel:
        Api(channel).create("Buy milk")
