"""The metrics: definitions, recording, and their sums over all workers.

No label has a value that a caller sends: calls of unknown methods are counted with the method `unknown`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector

from service.metrics.value_storage import use_value_storage


@dataclass(frozen=True, slots=True)
class Series:
    """Definition of a metric: name, labels, and the description for operators."""

    name: str
    labels: tuple[str, ...]
    description: str


# The first two follow go-grpc-prometheus, with codes as Go spells them, so that its dashboards and alerts work.
HANDLED = Series(
    "grpc_server_handled_total",
    ("grpc_service", "grpc_method", "grpc_code"),
    "Finished calls, by status code (OK, NotFound)",
)
HANDLING = Series(
    "grpc_server_handling_seconds",
    ("grpc_service", "grpc_method"),
    "Duration of calls (s); of streams, until their end",
)
BATCH_SIZE = Series("taskwell_batch_size", ("operation",), "Calls in each batch sent to the database")
OVERLOADED = Series("taskwell_overloaded_total", (), "Calls refused because too many were in flight or waiting")
IN_FLIGHT = Series("taskwell_calls_in_flight", (), "Task calls in flight")
WAITING = Series("taskwell_calls_waiting", (), "Task calls waiting to be sent to the database")
CONNECTIONS = Series("taskwell_database_connections_in_use", (), "Database connections in use")
ALL_SERIES = (HANDLED, HANDLING, BATCH_SIZE, OVERLOADED, IN_FLIGHT, WAITING, CONNECTIONS)

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_UNKNOWN = "/unknown/unknown"


class Metrics:
    """The metrics of this process; create only one. A scrape reads `registry`.

    `methods` are the full names (`/service/Method`) of the service's methods. Processes with a `worker` number share
    the folder in the variable PROMETHEUS_MULTIPROC_DIR: a scrape of any of them returns the sums over all.
    """

    def __init__(self, methods: Iterable[str], worker: int | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # of prometheus_client, as below
        use_value_storage(worker)
        own = self.registry = CollectorRegistry()
        if worker is not None:
            self.registry = CollectorRegistry()
            MultiProcessCollector(self.registry)  # type: ignore[no-untyped-call]
        self._handled = Counter(HANDLED.name, HANDLED.description, HANDLED.labels, registry=own)
        self._handling = _histogram(HANDLING, _SECONDS, own)
        self._batch_size = _histogram(BATCH_SIZE, _SIZES, own)
        self._overloaded = Counter(OVERLOADED.name, OVERLOADED.description, registry=own)
        self._own = own
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self._of_call: dict[tuple[str, str], tuple[Callable[[], None], Callable[[float], None]]] = {}
        self._of_batch: dict[str, Callable[[float], None]] = {}
        self.methods = frozenset(methods)
        for method in sorted(self.methods):
            self._resolve(method, "OK")

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
        if method not in self.methods:
            method = _UNKNOWN
        if (method, code) not in self._of_call:
            _, service, name = method.split("/")
            count = self._handled.labels(service, name, _as_go_spells(code)).inc
            self._of_call[method, code] = count, self._handling.labels(service, name).observe
        return self._of_call[method, code]


def _histogram(series: Series, buckets: Iterable[float], registry: CollectorRegistry) -> Histogram:
    return Histogram(series.name, series.description, series.labels, buckets=tuple(buckets), registry=registry)


def _as_go_spells(code: str) -> str:
    if code in {"OK", "CANCELLED"}:
        return {"OK": "OK", "CANCELLED": "Canceled"}[code]
    return "".join(part.capitalize() for part in code.split("_"))
