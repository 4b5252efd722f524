"""Metrics of the workers as their supervisor sees them, in a file of its own beside those of the workers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from service.metrics.files import current_file, open_or_new, supervisor_file, supervisor_layout
from service.metrics.series import HEARTBEAT_AGE, WORKER_RESTARTS, WORKERS

Cause: TypeAlias = Literal["exit", "hang", "start"]


class WorkerMetrics:
    """Counts workers. Create it once in the process of the supervisor."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        layout = supervisor_layout(range(1, count + 1))
        self._values = open_or_new(layout, supervisor_file(folder))
        self._workers, self._restarts = layout.of(WORKERS), layout.of(WORKER_RESTARTS)
        self._ages = layout.of(HEARTBEAT_AGE)
        self._values[self._workers["configured",]] = count
        self.on_ready(0)
        for worker in range(1, count + 1):
            self.on_heartbeat_age(worker, 0)

    def on_ready(self, count: int) -> None:
        """Record how many workers accept calls."""
        self._values[self._workers["ready",]] = count

    def on_restart(self, worker: int, cause: Cause) -> None:
        """Count a worker that ended, and drop its gauges: only its counters are still true."""
        self._values[self._restarts[cause,]] += 1
        current_file(self._folder, worker).unlink(missing_ok=True)

    def on_heartbeat_age(self, worker: int, seconds: float) -> None:
        """Record the time since the last heartbeat of a worker (s)."""
        self._values[self._ages[str(worker),]] = seconds
