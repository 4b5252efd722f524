"""The files in which several workers keep their metrics: a scrape sums them, and skips those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

_log = structlog.get_logger("metrics")


class WorkerFiles(Collector):
    """Collects the files of a folder. `unreadable` is the name and the description of a gauge of those it skipped."""

    def __init__(self, folder: Path, unreadable: tuple[str, str], registry: CollectorRegistry) -> None:
        self._folder = folder
        self._gauge = unreadable
        self._skipped: dict[str, str] = {}
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        # A file that a worker is just creating is empty.
        files = [path for path in sorted(self._folder.glob("*.db")) if not _is_empty(path)]
        unreadable: dict[str, str] = {}
        try:
            merged = _merge(files)
        except Exception:  # noqa: BLE001 - whatever is in the files
            unreadable = {path.name: cause for path in files if (cause := failure_of(path))}
            merged = _merge(path for path in files if path.name not in unreadable)
        if unreadable not in ({}, self._skipped):
            _log.warning("metrics files cannot be read", files=unreadable, folder=str(self._folder))
        self._skipped = unreadable
        yield from merged
        yield GaugeMetricFamily(*self._gauge, value=len(unreadable))


def prepare_folder(folder: Path, worker: int) -> None:
    """Create the folder if it was removed, and remove files of the worker with this number that cannot be read.

    The worker reads its files when it starts, to continue the counts of the one that it replaces.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.glob(f"*_{worker}.db"):
        if not _is_empty(path) and (cause := failure_of(path)):
            _log.warning("metrics file is replaced: it cannot be read", file=path.name, cause=cause)
            path.unlink()


def failure_of(path: Path) -> str | None:
    """Return why the file cannot be read; None if it can be."""
    try:
        _merge([path])
    except Exception as error:  # noqa: BLE001 - whatever is in the file
        return f"{type(error).__name__}: {error}"
    return None


def _merge(paths: Iterable[Path]) -> Iterable[Metric]:
    merged: Iterable[Metric] = MultiProcessCollector.merge(map(str, paths))  # type: ignore[no-untyped-call]
    return merged


def _is_empty(path: Path) -> bool:
    """True for an empty file, and for one that is gone."""
    try:
        return path.stat().st_size == 0
    except OSError:
        return True
