"""Wheels, built from this checkout and installed where the checkout is out of sight."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PATH": os.environ["PATH"]}  # no PYTHONPATH, which could lead back to the checkout


def run(*command: str | Path, cwd: Path) -> str:
    """What a command printed, which must go well."""
    ran = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def built_wheel(project: Path, folder: Path) -> Path:
    folder.mkdir()
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, project, cwd=folder)
    [wheel] = folder.iterdir()
    return wheel


def installed_wheels(folder: Path, *wheels: Path, needs: Path = Path(sys.prefix)) -> Path:
    """The bin folder of an environment of its own that has these wheels.

    What they need is that of another environment, this one or `needs`, seen through a .pth file, so that nothing is
    downloaded. The .pth files of editable installs are not read that way: the checkout stays out of sight.
    """
    venv = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=folder)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", venv / "bin" / "python")
    run(*pip, "install", "--no-deps", "--no-index", *wheels, cwd=folder)
    theirs = {
        sysconfig.get_path(name, vars={"base": str(needs), "platbase": str(needs)}) for name in ("purelib", "platlib")
    }
    own = Path(sysconfig.get_path("purelib", vars={"base": str(venv)}))
    (own / "dependencies.pth").write_text("\n".join(theirs) + "\n")
    return venv / "bin"
