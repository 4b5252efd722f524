"""Runs programs of other languages and their tools."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

_LIMIT = 8 * 60  # s; for programs that hang


class Failed(Exception):
    """A program failed. The message is its command and its output."""


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Run a program and return its output. Raises Failed."""
    ran = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    if ran.returncode:
        raise Failed(f"{' '.join(map(str, command))}\n{ran.stdout}")
    return ran.stdout


def not_installed(tools: Iterable[str]) -> set[str]:
    """The tools that are not on the PATH, or do not work: rustup's cargo is there without a toolchain."""
    return {tool for tool in tools if not shutil.which(tool) or (tool == "cargo" and not _works("cargo", "--version"))}


def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=_LIMIT, check=False).returncode == 0
