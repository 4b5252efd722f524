"""The wheels and source archives of `make build`, installed where the checkout is out of sight."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "requirements"
ENVIRONMENT = {"PATH": os.environ["PATH"]}  # no PYTHONPATH, which could lead back to the checkout
KINDS = {"wheel": ".whl", "sdist": ".tar.gz"}


def run(*command: str | Path, cwd: Path, environment: dict[str, str] = ENVIRONMENT) -> str:
    """Run a command that must succeed. Returns its standard output."""
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def build_once(folder: Path) -> None:
    """Run `make build` into this folder, unless another process of this test session has done so."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "done"
        if not done.exists():
            # -o: leave the environment that these tests run in as it is.
            run("make", "-o", ".venv/installed", "build", f"DIST={folder / 'dist'}", cwd=ROOT)
            done.touch()


def distribution(dist: Path, project: str, kind: str) -> Path:
    """The wheel or the source archive of a project."""
    [path] = dist.glob(f"{project}-*{KINDS[kind]}")
    return path


def install(folder: Path, *distributions: Path, lock: str) -> Path:
    """Install locked dependencies, and on top of them these distributions, into an empty environment.

    Returns its bin folder.
    """
    venv = folder / "venv"
    # The variables of this process may say which registry to use. uv, because pip takes ten times as long.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    uv = Path(sys.prefix) / "bin" / "uv"
    commands: tuple[tuple[str | Path, ...], ...] = (
        ("venv", "--quiet", "--python", sys.executable, venv),
        ("pip", "install", "--quiet", "--python", venv, "--require-hashes", "-r", LOCKS / lock),
        ("pip", "install", "--quiet", "--python", venv, "--no-deps", *distributions),
        ("pip", "check", "--python", venv),
    )
    for command in commands:
        run(uv, *command, cwd=folder, environment=environment)
    return venv / "bin"
