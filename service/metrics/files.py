"""Storage for the values of metrics: in memory, or in files that the workers share.

Each worker has two files: of what it has counted, which the worker that replaces it continues, and of its current
state, which the supervisor removes when the worker dies. The worker that is scraped adds up the files of all. Counting
is one store into mapped memory: docs/decisions/0011-metric-files.md.
"""

from __future__ import annotations

import math
import mmap
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

import structlog

from service.metrics.series import HEARTBEAT_AGE, WORKER_RESTARTS, WORKERS, Kind, Labels, Row, Series, rows_of

_log = structlog.get_logger("metrics")

Values: TypeAlias = "memoryview[float]"

_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Sharing:
    """The folder that the workers share, and the number of this one, from 1 to `count`."""

    folder: Path
    worker: int
    count: int

    def counted(self, worker: int) -> Path:
        return self.folder / f"counted-{worker}"

    def current(self, worker: int) -> Path:
        return current_file(self.folder, worker)

    @property
    def supervisor(self) -> Path:
        return supervisor_file(self.folder)


def current_file(folder: Path, worker: int) -> Path:
    """The file with the current state of a worker, which must not outlive it."""
    return folder / f"current-{worker}"


def supervisor_file(folder: Path) -> Path:
    return folder / "supervisor"


class Layout:
    """Places of rows in an array of numbers."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._places: dict[Series, dict[Labels, int]] = {}
        self._initial = array("d")
        for series, labels in rows:
            self._places.setdefault(series, {})[labels] = len(self._initial)
            # Counters are 0 from the start. What has no current value yet is not shown.
            self._initial.extend([math.nan if series.kind is Kind.GAUGE else 0.0] * series.size)
        # Begins each file: a file of another version of the service, or with other rows, is not read.
        shape = "\n".join(f"{series.name} {labels} {series.buckets}" for series, labels in rows)
        self._digest = blake2b(shape.encode(), digest_size=_DIGEST_BYTES).digest()

    def of(self, series: Series) -> dict[Labels, int]:
        """The places of a metric, by its labels."""
        return self._places.get(series, {})

    def new(self) -> Values:
        """Initial values, in memory."""
        return memoryview(self._initial[:])

    def open(self, path: Path) -> Values:
        """The values in a file; it is made, with its folder, if there is none that can be read. Raises OSError."""
        try:
            self.read(path)
        except (OSError, ValueError) as error:
            if not isinstance(error, FileNotFoundError):
                _log.warning("metrics file is replaced: it cannot be read", file=path.name, cause=str(error))
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Written, not only extended: to store into a hole would end this process when the disk is full.
            new = path.with_name(f"{path.name}.new")
            new.write_bytes(self._digest + self._initial.tobytes())
            new.rename(path)
        with path.open("r+b") as file:
            return memoryview(mmap.mmap(file.fileno(), 0))[_DIGEST_BYTES:].cast("d")

    def read(self, path: Path) -> Values:
        """A copy of the values in a file. Raises OSError, or ValueError if it has not this layout."""
        content = memoryview(path.read_bytes())
        if content[:_DIGEST_BYTES] != self._digest or len(content) != _DIGEST_BYTES + 8 * len(self._initial):
            raise ValueError("not the metrics of this version")
        return content[_DIGEST_BYTES:].cast("d")


def supervisor_layout(workers: Iterable[int]) -> Layout:
    """The layout of the file of the supervisor of these workers."""
    ages = [(HEARTBEAT_AGE, (str(worker),)) for worker in workers]
    return Layout([*rows_of((WORKERS, WORKER_RESTARTS)), *ages])


def open_or_new(layout: Layout, path: Path) -> Values:
    """The values in a file, or in memory if there can be none: metrics do not keep a worker from serving."""
    try:
        return layout.open(path)
    except OSError as error:
        _log.warning("metrics are not shared with the other workers", file=str(path), cause=str(error))
        return layout.new()
