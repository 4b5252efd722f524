"""The wheel, without the checkout, is a whole service: it migrates, serves and stops."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import grpc
import pytest

from tests.running import Api

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PATH": os.environ["PATH"]}  # no PYTHONPATH, which could lead back to the checkout
ORIGINS = """
import grpc, json, migrations, service, sys, taskwell.v1
json.dump({module.__name__: module.__file__ for module in (grpc, migrations, service, taskwell.v1)}, sys.stdout)
"""


def run(*command: str | Path, cwd: Path) -> str:
    ran = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", dist, ROOT, cwd=dist)
    [wheel] = dist.iterdir()
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment of its own with the wheel in it.

    The wheel's dependencies are those of this environment, seen through a .pth file, so that nothing is downloaded. The
    .pth file of the editable install is not read that way: the checkout stays out of sight.
    """
    venv = tmp_path_factory.mktemp("wheel") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv.parent)
    python = venv / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=venv.parent)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(venv)}))
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n" + sysconfig.get_path("platlib") + "\n")
    return venv / "bin"


@contextmanager
def serving(installed: Path, folder: Path, *arguments: str) -> Iterator[str]:
    """The address of `taskwell serve` in this folder, which SIGTERM must end well when the block is left."""
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


def test_the_wheel_holds_all_that_is_needed_and_nothing_else(wheel: Path) -> None:
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    needed = {
        str(path.relative_to(folder))
        for folder, package in ((ROOT, "service"), (ROOT, "migrations"), (ROOT / "generated" / "python", "taskwell"))
        for path in (folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert needed == names
    assert {f"taskwell/v1/{name}" for name in ("py.typed", "tasks_pb2.pyi", "taskwell.protoset")} < names
    assert any(name.startswith("migrations/versions/") for name in names)


def test_the_wheel_holds_the_openapi_document_itself(wheel: Path) -> None:
    document = (ROOT / "generated" / "openapi" / "taskwell.v1.json").read_bytes()
    assert ZipFile(wheel).read("service/rest/assets/openapi.json") == document


def test_an_installed_wheel_does_not_look_into_the_checkout(installed: Path, tmp_path: Path) -> None:
    origins = json.loads(run(installed / "python", "-c", ORIGINS, cwd=tmp_path))
    assert not Path(origins.pop("grpc")).is_relative_to(installed.parent)
    for origin in origins.values():
        assert Path(origin).is_relative_to(installed.parent)


def test_an_installed_wheel_serves_from_an_empty_folder_and_keeps_its_tasks(installed: Path, tmp_path: Path) -> None:
    with serving(installed, tmp_path) as address, grpc.insecure_channel(address) as channel:
        api = Api(channel)
        task = api.create("Buy milk")
    with serving(installed, tmp_path) as address, grpc.insecure_channel(address) as channel:
        assert task == Api(channel, api.user).get(task.id)


def test_an_installed_wheel_serves_with_several_workers(installed: Path, tmp_path: Path) -> None:
    with serving(installed, tmp_path, "--workers", "2") as address, grpc.insecure_channel(address) as channel:
        Api(channel).create("Buy milk")
