"""CPU time and memory of processes, and a description of the machine. Linux only: reads /proc."""

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "bench"

_TICK = 1 / os.sysconf("SC_CLK_TCK")  # s
_PACKAGES = ("grpcio", "protobuf", "psycopg", "sqlalchemy", "uvloop")


@dataclass(frozen=True, slots=True)
class Process:
    """A snapshot of a process."""

    pid: int
    parent: int
    cpu: float
    """User and system time (s) of the process and of its children that have ended."""


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def tree(pid: int) -> list[Process]:
    """The process and its living descendants."""
    everyone = [process for entry in Path("/proc").iterdir() if entry.name.isdigit() and (process := _read(entry))]
    family = [process for process in everyone if process.pid == pid]
    for member in family:
        family.extend(process for process in everyone if process.parent == member.pid)
    return family


def cpu_seconds(pid: int) -> float:
    """CPU time (s) of the process and all its descendants so far, also of those that have ended."""
    return sum(process.cpu for process in tree(pid))


def peak_memory(pid: int) -> float:
    """Peak resident set (MiB) of any one process of the tree, shared pages included."""
    return max((_peak(process.pid) for process in tree(pid)), default=0.0)


def _read(entry: Path) -> Process | None:
    try:
        text = (entry / "stat").read_text()
    except OSError:  # it has ended
        return None
    # The name in parentheses may contain anything. After it: state, parent, and in fields 12 to 15 the times.
    fields = text.rpartition(")")[2].split()
    return Process(int(entry.name), int(fields[1]), sum(map(int, fields[11:15])) * _TICK)


def _peak(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def description() -> dict[str, str | int]:
    """Machine, versions, date and commit of a run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _said_by("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "cores": cores(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "h2load": _said_by("h2load", "--version"),
        "go": _said_by("go", "version"),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _said_by(*command: str) -> str:
    try:
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "missing"
    return said.stdout.strip()
