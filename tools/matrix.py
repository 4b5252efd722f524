"""Tests the client on every Python that it supports, with its oldest and its newest dependencies.

    python tools/matrix.py

Each environment starts empty, gets locked dependencies (requirements/client-oldest.txt or client-newest.txt) and the
wheel, and calls a service with the program of clients/python/README.md, with asyncio and from the command line. The
exit status is 1 if any of them failed. A Python that this machine lacks is reported, and is no failure.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTHONS = tuple(f"3.{minor}" for minor in range(10, 15))
LOCKS = ("oldest", "newest")
TARGET = "127.0.0.1:50051"  # in the program of clients/python/README.md

# A call with the asyncio client. Prints the versions of grpcio and protobuf.
ASYNCIO = f"""
import asyncio
from importlib.metadata import version
from taskwell_client import connect_async

async def main():
    async with connect_async("{TARGET}", user="alice") as client:
        assert [task.title async for task in client.list()] == ["Buy milk"]

asyncio.run(main())
print("grpcio", version("grpcio") + ", protobuf", version("protobuf"))
"""


def interpreter(python: str) -> Path | None:
    """Find a Python of this version on the PATH or in pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [*pyenv.glob(f"versions/{python}.*/bin/python")]
    if on_path := shutil.which(f"python{python}"):
        candidates.insert(0, Path(on_path))
    for candidate in candidates:
        ran = subprocess.run([candidate, "-c", "import sys; print(sys.executable)"], capture_output=True, check=False)
        if ran.returncode == 0:  # pyenv has shims also for versions that it cannot run
            return candidate
    return None


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """Run a service of this checkout. Yields its address."""
    command = [str(BIN / "taskwell"), "serve", "--grpc-address", "127.0.0.1:0", "--log-level", "error"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def run(*command: str | Path) -> str:
    """Run a command. Returns its output. Raises CalledProcessError."""
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return ran.stdout.strip()


def tried(python: Path, lock: str, wheel: Path, folder: Path, address: str) -> str:
    """Test the wheel in a new environment. Returns the versions it ran on. Raises CalledProcessError."""
    uv, venv = BIN / "uv", folder / "venv"
    shutil.rmtree(venv, ignore_errors=True)
    run(uv, "venv", "--quiet", "--no-python-downloads", "--python", python, venv)
    install: Sequence[str | Path] = (uv, "pip", "install", "--quiet", "--python", venv)
    run(*install, "--require-hashes", "-r", ROOT / "requirements" / f"client-{lock}.txt")
    run(*install, "--no-deps", "--no-index", wheel)
    run(uv, "pip", "check", "--python", venv)
    user = f"{lock}-{python.parent.parent.name}"

    def of_this_user(program: str) -> str:
        return program.replace(TARGET, address).replace('"alice"', f'"{user}"')

    readme = (ROOT / "clients" / "python" / "README.md").read_text()
    example = re.search(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert example
    for program in (example[1], ASYNCIO):
        said = run(venv / "bin" / "python", "-W", "error", "-c", of_this_user(program))
    run(venv / "bin" / "taskwell", "task", "list", "--target", address, "--user", user)
    return said


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory(prefix="taskwell-matrix-") as temporary, service(Path(temporary)) as address:
        folder = Path(temporary)
        run(BIN / "python", "-m", "build", "--no-isolation", "--outdir", folder, ROOT / "clients" / "python")
        [wheel] = folder.glob("*.whl")
        for python in PYTHONS:
            found = interpreter(python)
            if found is None:
                print(f"Python {python}: not on this machine")
                continue
            for lock in LOCKS:
                try:
                    print(f"Python {python}, {lock}: {tried(found, lock, wheel, folder, address)}", flush=True)
                except subprocess.CalledProcessError as error:
                    failed += 1
                    print(f"Python {python}, {lock}: FAILED: {error.cmd}\n{error.stdout}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
