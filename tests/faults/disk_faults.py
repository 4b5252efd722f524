"""Faults of the disk under SQLite's file: it hangs, or its files may not be changed or grow."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.faults.campaign import SETTINGS
from tests.faults.fault import SQLITE, Fault, Injection
from tests.faults.own_system import OwnSystem, missing_mounts
from tests.faults.system import System, running_system

_ONLY_SQLITE = frozenset({SQLITE})
_LIMIT = 30.0
"""Limit of every wait (s)."""
_SIZE = 64 * 2**20
"""Size of the disk (bytes)."""


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Mount a file system in a file on the folder."""
    image = folder.with_name(f"{folder.name}.image")
    with image.open("wb") as file:
        file.truncate(_SIZE)
    _run("mkfs.ext4", "-q", str(image))
    try:
        _run("mount", "-o", "loop", str(image), str(folder))
        try:
            yield
        finally:
            _run("umount", "--lazy", str(folder))
    finally:
        image.unlink()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=_LIMIT)


def _on_disk(kind: str) -> AbstractContextManager[System]:
    return running_system(kind, settings=SETTINGS, mount=_disk)


@contextmanager
def frozen(system: System) -> Iterator[None]:
    """Let every write to the disk wait, as a volume that its server has lost does."""
    _run("fsfreeze", "--freeze", str(system.folder))
    try:
        yield
    finally:
        _run("fsfreeze", "--unfreeze", str(system.folder))


def _immutable(*names: str) -> Injection:
    """Forbid changes of these files or of the folder, to everybody and on open files too."""

    @contextmanager
    def forbidden(system: System) -> Iterator[None]:
        files = [str(system.folder / name) for name in names]
        _run("chattr", "+i", *files)
        try:
            yield
        finally:
            _run("chattr", "-i", *files)

    return forbidden


@contextmanager
def may_not_grow(system: System) -> Iterator[None]:
    """Limit the size of the files that the server writes (RLIMIT_FSIZE)."""
    limits = resource.prlimit(system.server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(system.server.pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(system.server.pid, resource.RLIMIT_FSIZE, limits)


OWN_SYSTEMS = (
    OwnSystem(
        _on_disk,
        (
            Fault("disk hangs", frozen, _ONLY_SQLITE, seconds=1),
            Fault("files read-only", _immutable("taskwell.db", "taskwell.db-wal"), _ONLY_SQLITE),
            Fault("folder read-only", _immutable("."), _ONLY_SQLITE),
            Fault("files may not grow (RLIMIT_FSIZE)", may_not_grow, _ONLY_SQLITE),
        ),
        missing_mounts(),
    ),
)
