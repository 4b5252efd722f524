"""Faults that need a system of their own: several workers, a small disk, a clock that steps, a log without reader."""

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from tests.faults import cluster_faults, disk_faults, name_faults
from tests.faults.campaign import SETTINGS
from tests.faults.fault import POSTGRESQL, SQLITE, Fault, Injection
from tests.faults.own_system import OwnSystem, missing_mounts
from tests.faults.system import System, running_system

_ONLY_SQLITE, _POSTGRES = frozenset({SQLITE}), frozenset({POSTGRESQL})
_ALL = _ONLY_SQLITE | _POSTGRES
_CLOCK = "clock"
"""The file with the offset of the server's clock, in the folder of its system."""
_SIZE = "6m"
"""Size of the small disk."""
_LIMIT = 30.0
"""Limit of every wait (s)."""


def _workers(kind: str) -> AbstractContextManager[System]:
    return running_system(kind, settings={**SETTINGS, "WORKERS": "2"})


def _children(system: System) -> list[int]:
    text = Path(f"/proc/{system.server.pid}/task/{system.server.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


def _signalled(*numbers: signal.Signals) -> Injection:
    """Send signals to one worker: the first when the fault begins, the others when it ends."""

    @contextmanager
    def sent(system: System) -> Iterator[None]:
        worker = _children(system)[-1]
        for index, number in enumerate(numbers):
            with suppress(ProcessLookupError):
                os.kill(worker, number)
            if index == 0:
                yield
        deadline = time.monotonic() + _LIMIT
        while len(_children(system)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)

    return sent


@contextmanager
def supervisor_killed(system: System) -> Iterator[None]:
    """Kill the supervisor, and its workers with it, and start it again."""
    workers = _children(system)
    system.server.kill()
    deadline = time.monotonic() + _LIMIT
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlives its supervisor"
        time.sleep(0.02)
    yield
    system.server.start()


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", folder], check=True, timeout=_LIMIT)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=_LIMIT)


def _on_small_disk(kind: str) -> AbstractContextManager[System]:
    return running_system(kind, settings={**SETTINGS, "LOG_LEVEL": "info"}, mount=small_disk)


@contextmanager
def disk_full(system: System) -> Iterator[None]:
    """Fill the disk on which the log is, and SQLite's file."""
    filler = system.folder / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    yield
    filler.unlink()


def _with_clock(kind: str) -> AbstractContextManager[System]:
    environment = {"LD_PRELOAD": "{folder}/stepped_clock.so", "CLOCK_OFFSET_FILE": f"{{folder}}/{_CLOCK}"}
    return running_system(kind, settings=SETTINGS, environment=environment, mount=_clock_at_zero)


@contextmanager
def _clock_at_zero(folder: Path) -> Iterator[None]:
    _set_clock(folder, 0)
    source, library = Path(__file__).with_name("stepped_clock.c"), folder / "stepped_clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True, timeout=_LIMIT)
    yield


def _set_clock(folder: Path, seconds: int) -> None:
    """Write the offset into the file, which the server has mapped."""
    with (folder / _CLOCK).open("r+b" if (folder / _CLOCK).exists() else "wb") as file:
        file.write(struct.pack("@l", seconds))


def _clock_stepped(seconds: int) -> Injection:
    """Set the wall clock of the server forward or back."""

    @contextmanager
    def stepped(system: System) -> Iterator[None]:
        _set_clock(system.folder, seconds)
        yield
        _set_clock(system.folder, 0)

    return stepped


def _log_reader_gone(kind: str) -> AbstractContextManager[System]:
    return running_system(kind, settings={**SETTINGS, "LOG_LEVEL": "info"}, mount=_log_without_reader)


@contextmanager
def _log_without_reader(folder: Path) -> Iterator[None]:
    """Make the log a pipe, which the server opens while it has a reader."""
    os.mkfifo(folder / "server.log")
    reader = os.open(folder / "server.log", os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield
    finally:
        os.close(reader)


@contextmanager
def log_blocked(_system: System) -> Iterator[None]:
    """Do nothing: nobody reads the log, which has been full for long."""
    yield


def _missing_clock() -> str | None:
    return None if sys.platform == "linux" and shutil.which("cc") else "there is no C compiler, or no LD_PRELOAD"


OWN_SYSTEMS = (
    OwnSystem(
        _workers,
        (
            Fault("worker killed (kill -9)", _signalled(signal.SIGKILL), _POSTGRES, seconds=0, server_away=True),
            Fault(
                "worker stopped (SIGSTOP)",
                _signalled(signal.SIGSTOP, signal.SIGCONT),
                _POSTGRES,
                server_away=True,
            ),
            Fault("supervisor killed (kill -9)", supervisor_killed, _POSTGRES, seconds=0.1, server_away=True),
        ),
    ),
    OwnSystem(
        _on_small_disk,
        (
            Fault("disk full (SQLite's file and log)", disk_full, _ONLY_SQLITE),
            Fault("log on a full disk", disk_full, _POSTGRES),
        ),
        missing_mounts(),
    ),
    OwnSystem(
        _with_clock,
        (
            Fault("clock set back by an hour", _clock_stepped(-3600), _ALL),
            Fault("clock set forward by an hour", _clock_stepped(3600), _ALL),
        ),
        _missing_clock(),
    ),
    OwnSystem(_log_reader_gone, (Fault("log that nobody reads", log_blocked, _ALL),)),
    *disk_faults.OWN_SYSTEMS,
    *name_faults.OWN_SYSTEMS,
    *cluster_faults.OWN_SYSTEMS,
)
