"""Runs the test suite on a busy machine with cold caches, several times: no run may fail.

    python tools/stress.py [--times N] [PYTEST ARGUMENT ...]

Each run has a CPU hog for every core beside it, and an empty HOME, GOMODCACHE and GOCACHE. pytest-randomly gives each
run an order of its own. The exit status is 1 if any run failed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Process
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARALLEL = ("--numprocesses", "auto", "--maxprocesses", "4")
# Caches that would be warm although HOME is empty.
ELSEWHERE = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "PIP_CACHE_DIR", "UV_CACHE_DIR", "GOPATH")


def keep_busy(parent: int) -> None:
    """Use up a core until the parent process has gone."""
    while os.getppid() == parent:
        for _ in range(1_000_000):
            pass


@contextmanager
def hogs() -> Iterator[None]:
    """A busy process for every core, until the block is left."""
    processes = [Process(target=keep_busy, args=(os.getpid(),), daemon=True) for _ in range(os.cpu_count() or 1)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


@contextmanager
def cold_caches() -> Iterator[dict[str, str]]:
    """Environment variables with which every cache is empty."""
    with tempfile.TemporaryDirectory(prefix="taskwell-stress-") as home:
        environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
        # pyenv's interpreters are no cache.
        environment.setdefault("PYENV_ROOT", str(Path.home() / ".pyenv"))
        try:
            yield {**environment, "HOME": home, "GOMODCACHE": f"{home}/modules", "GOCACHE": f"{home}/built"}
        finally:
            # Go writes its module cache without write permission.
            subprocess.run(["chmod", "-R", "u+w", home], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=3, help="how many runs (default: 3)")
    arguments, pytest = parser.parse_known_args()
    failed = 0
    for number in range(1, arguments.times + 1):
        print(f"stress: run {number} of {arguments.times}", flush=True)
        with hogs(), cold_caches() as environment:
            command = [sys.executable, "-m", "pytest", *PARALLEL, *pytest]
            failed += subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0
    print(f"stress: {failed} of {arguments.times} runs failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
