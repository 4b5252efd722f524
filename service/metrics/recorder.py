"""The metrics: definitions, recording, and their sums over all workers.

No label has a value that a caller sends: calls of unknown methods are counted with the method `unknown`.
"""

import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from service.metrics.value_storage import use_value_storage
from service.metrics.worker_files import WorkerFiles, prepare_folder


@dataclass(frozen=True, slots=True)
class Series:
    """Definition of a metric: name, labels, and the description for operators."""

    name: str
    labels: tuple[str, ...]
    description: str


# The first three follow go-grpc-middleware, with codes as Go spells them, so that its dashboards and alerts work.
_METHOD = ("grpc_type", "grpc_service", "grpc_method")
STARTED = Series("grpc_server_started_total", _METHOD, "Calls that have started")
HANDLED = Series("grpc_server_handled_total", (*_METHOD, "grpc_code"), "Finished calls, by status code (OK, NotFound)")
HANDLING = Series("grpc_server_handling_seconds", _METHOD, "Duration of calls (s); of streams, until their end")
BATCH_SIZE = Series("taskwell_batch_size", ("operation",), "Calls in each batch sent to the database")
OVERLOADED = Series("taskwell_overloaded_total", (), "Calls refused because too many were in flight or waiting")
IN_FLIGHT = Series("taskwell_calls_in_flight", (), "Task calls in flight")
WAITING = Series("taskwell_calls_waiting", (), "Task calls waiting to be sent to the database")
CONNECTIONS = Series("taskwell_database_connections_in_use", (), "Database connections in use")
BUILD = Series(
    "taskwell_build_info", ("version", "python_version", "grpc_version"), "1, with the versions of this server"
)
# The supervisor writes these three (supervision.py).
WORKERS = Series(
    "taskwell_workers",
    ("state",),
    "Workers, by state: configured are those that should run, ready are those that accept calls",
)
RESTARTS = Series(
    "taskwell_worker_restarts_total",
    ("cause",),
    "Restarts of workers, by cause: exit; hang, if no heartbeat came; start, if it never became ready",
)
HEARTBEAT_AGE = Series(
    "taskwell_worker_heartbeat_age_seconds", ("worker",), "Time since the last heartbeat of a worker (s)"
)
UNREADABLE = Series(
    "taskwell_metrics_files_unreadable",
    (),
    "Metrics files of workers that cannot be read: this scrape lacks their counts",
)
ALL_SERIES = (
    *(STARTED, HANDLED, HANDLING, BATCH_SIZE, OVERLOADED, IN_FLIGHT, WAITING, CONNECTIONS, BUILD),
    *(WORKERS, RESTARTS, HEARTBEAT_AGE, UNREADABLE),
)

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# Every status code, and how Go spells it.
_CODES = {
    "OK": "OK",
    "CANCELLED": "Canceled",
    "UNKNOWN": "Unknown",
    "INVALID_ARGUMENT": "InvalidArgument",
    "DEADLINE_EXCEEDED": "DeadlineExceeded",
    "NOT_FOUND": "NotFound",
    "ALREADY_EXISTS": "AlreadyExists",
    "PERMISSION_DENIED": "PermissionDenied",
    "RESOURCE_EXHAUSTED": "ResourceExhausted",
    "FAILED_PRECONDITION": "FailedPrecondition",
    "ABORTED": "Aborted",
    "OUT_OF_RANGE": "OutOfRange",
    "UNIMPLEMENTED": "Unimplemented",
    "INTERNAL": "Internal",
    "UNAVAILABLE": "Unavailable",
    "DATA_LOSS": "DataLoss",
    "UNAUTHENTICATED": "Unauthenticated",
}
_UNKNOWN = ("unary", "unknown", "unknown")


class Metrics:
    """The metrics of this process; create only one. A scrape reads `registry`.

    `methods` maps the full names (`/service/Method`) of the service's methods to their `grpc_type`. Processes with a
    `worker` number share the folder in the variable PROMETHEUS_MULTIPROC_DIR: a scrape of any of them returns the sums
    over all.
    """

    def __init__(self, methods: Mapping[str, str], worker: int | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # of prometheus_client, as below
        own = self.registry = CollectorRegistry()
        if worker is None:
            use_value_storage(None)
            Gauge(UNREADABLE.name, UNREADABLE.description, registry=own)
        else:
            self.registry = CollectorRegistry()
            folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
            prepare_folder(folder, worker)
            use_value_storage(worker)
            WorkerFiles(folder, (UNREADABLE.name, UNREADABLE.description), self.registry)
        self._started = Counter(STARTED.name, STARTED.description, STARTED.labels, registry=own)
        self._handled = Counter(HANDLED.name, HANDLED.description, HANDLED.labels, registry=own)
        self._handling = _histogram(HANDLING, _SECONDS, own)
        self._batch_size = _histogram(BATCH_SIZE, _SIZES, own)
        self._overloaded = Counter(OVERLOADED.name, OVERLOADED.description, registry=own)
        self._own = own
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self._of_call: dict[tuple[str, str], tuple[Callable[[], None], Callable[[float], None]]] = {}
        self._of_start: dict[str, Callable[[], None]] = {}
        self._of_batch: dict[str, Callable[[float], None]] = {}
        self._labels = {method: (grpc_type, *method.split("/")[1:]) for method, grpc_type in methods.items()}
        # Zeros from the start: the first failure of a kind is then an increase, which alerts see.
        for method in sorted(methods):
            self._resolve_start(method)
            for code in _CODES:
                self._resolve(method, code)
        build = Gauge(BUILD.name, BUILD.description, BUILD.labels, registry=own, multiprocess_mode="max")
        build.labels(version("taskwell"), platform.python_version(), version("grpcio")).set(1)

    def on_start(self, method: str) -> None:
        """Count a call that starts, by its full method name."""
        try:
            count = self._of_start[method]
        except KeyError:
            count = self._resolve_start(method)
        count()

    def on_call(self, method: str, code: str, seconds: float) -> None:
        """Count a finished call: full method name, status code (`NOT_FOUND`), duration (s)."""
        try:
            count, observe = self._of_call[method, code]
        except KeyError:
            count, observe = self._resolve(method, code)
        count()
        observe(seconds)

    def on_batch(self, operation: str, size: int) -> None:
        """Record the size of a batch that is sent to the database."""
        try:
            observe = self._of_batch[operation]
        except KeyError:
            observe = self._of_batch[operation] = self._batch_size.labels(operation).observe
        observe(size)

    def on_overload(self) -> None:
        """Count a call that was refused because too many are in flight."""
        self._overloaded.inc()

    def watch(self, series: Series, value: Callable[[], float]) -> None:
        """Add a gauge that `sample` sets to `value()`; it changes too often to be set at every change."""
        gauge = Gauge(series.name, series.description, registry=self._own, multiprocess_mode="livesum")
        self._gauges.append((gauge, value))

    def sample(self) -> None:
        """Set the gauges to their current values."""
        for gauge, value in self._gauges:
            gauge.set(value())

    def _resolve(self, method: str, code: str) -> tuple[Callable[[], None], Callable[[float], None]]:
        """Return the functions that record a call of this method with this code.

        Their number is bounded: methods times codes.
        """
        if method not in self._labels:
            method = ""
        if (method, code) not in self._of_call:
            labels = self._labels.get(method, _UNKNOWN)
            count = self._handled.labels(*labels, _CODES[code]).inc
            self._of_call[method, code] = count, self._handling.labels(*labels).observe
        return self._of_call[method, code]

    def _resolve_start(self, method: str) -> Callable[[], None]:
        """Return the function that counts a call of this method."""
        if method not in self._labels:
            method = ""
        if method not in self._of_start:
            self._of_start[method] = self._started.labels(*self._labels.get(method, _UNKNOWN)).inc
        return self._of_start[method]


def _histogram(series: Series, buckets: Iterable[float], registry: CollectorRegistry) -> Histogram:
    return Histogram(series.name, series.description, series.labels, buckets=tuple(buckets), registry=registry)
