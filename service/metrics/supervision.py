"""Metrics of the workers as their supervisor sees them, in a file of its own beside those of the workers.

A server with one worker has no supervisor: its process records them about itself.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.multiprocess import mark_process_dead

from service.metrics.recorder import HEARTBEAT_AGE, RESTARTS, WORKERS, Series
from service.metrics.value_storage import use_value_storage

Cause: TypeAlias = Literal["exit", "hang", "start"]


class WorkerMetrics:
    """Counts workers. Create it once in the process of the supervisor, or in that of the only worker."""

    def __init__(self, workers: range, registry: CollectorRegistry) -> None:
        # A supervisor has one file, so that the modes of gauges make no difference; "max" adds no label.
        states = _gauge(WORKERS, registry)
        self._ready = states.labels("ready")
        self._ready.set(0)
        states.labels("configured").set(len(workers))
        self._restarts = Counter(RESTARTS.name, RESTARTS.description, RESTARTS.labels, registry=registry)
        for cause in ("exit", "hang", "start"):
            self._restarts.labels(cause)
        ages = _gauge(HEARTBEAT_AGE, registry)
        self._ages = {worker: ages.labels(str(worker)) for worker in workers}

    @classmethod
    def of_supervisor(cls, count: int) -> "WorkerMetrics":
        """Keep the metrics in a file in the folder that the variable PROMETHEUS_MULTIPROC_DIR names."""
        use_value_storage("supervisor")
        return cls(range(1, count + 1), CollectorRegistry())

    def on_ready(self, count: int) -> None:
        """Record how many workers accept calls."""
        self._ready.set(count)

    def on_restart(self, worker: int, cause: Cause) -> None:
        """Count a worker that ended, and drop its gauges: only its counters are still true."""
        self._restarts.labels(cause).inc()
        mark_process_dead(worker)  # type: ignore[no-untyped-call]  # of prometheus_client

    def on_heartbeat_age(self, worker: int, seconds: float) -> None:
        """Record the time since the last heartbeat of a worker (s)."""
        self._ages[worker].set(seconds)

    def watch_heartbeat(self, worker: int, age: Callable[[], float]) -> None:
        """Have each scrape call `age` for the time since the last heartbeat; for a process without a supervisor."""
        self._ages[worker].set_function(age)


def _gauge(series: Series, registry: CollectorRegistry) -> Gauge:
    return Gauge(series.name, series.description, series.labels, registry=registry, multiprocess_mode="max")
