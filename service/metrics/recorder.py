"""What Prometheus may know of the service: counted where it happens, added up over the workers.

No label is ever made of what a caller sends: a method that the service does not have is `unknown`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector

from service.metrics.value_storage import use_value_storage


@dataclass(frozen=True, slots=True)
class Series:
    """A metric: its name, its labels and what it tells."""

    name: str
    labels: tuple[str, ...]
    description: str


# The first two are those of go-grpc-prometheus, codes spelt as Go does, so that its dashboards and alerts fit.
HANDLED = Series(
    "grpc_server_handled_total", ("grpc_service", "grpc_method", "grpc_code"), "Calls answered, by code (OK, NotFound)"
)
HANDLING = Series(
    "grpc_server_handling_seconds", ("grpc_service", "grpc_method"), "How long calls took, streams until their end (s)"
)
BATCH_SIZE = Series("taskwell_batch_size", ("operation",), "How many calls went to the database together")
OVERLOADED = Series("taskwell_overloaded_total", (), "Calls refused because too many were under way or waiting")
IN_FLIGHT = Series("taskwell_calls_in_flight", (), "Task calls under way")
WAITING = Series("taskwell_calls_waiting", (), "Task calls that wait to be sent to the database")
CONNECTIONS = Series("taskwell_database_connections_in_use", (), "Database connections in use")
ALL_SERIES = (HANDLED, HANDLING, BATCH_SIZE, OVERLOADED, IN_FLIGHT, WAITING, CONNECTIONS)

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_UNKNOWN = "/unknown/unknown"


class Metrics:
    """The counts of this process; at most one of it. `registry` is what a scrape reads.

    `methods` are the full names (`/service/Method`) of those that the service has. A process with a `worker` number is
    one of several, which share the folder that the variable PROMETHEUS_MULTIPROC_DIR names: a scrape of any of them
    reads the counts of all.
    """

    def __init__(self, methods: Iterable[str], worker: int | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # of prometheus_client, here and below
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
        """Count a call that was answered: its full name, its code (`NOT_FOUND`) and how long it took."""
        try:
            count, observe = self._of_call[method, code]
        except KeyError:
            count, observe = self._resolve(method, code)
        count()
        observe(seconds)

    def on_batch(self, operation: str, size: int) -> None:
        """Count a set of calls that goes to the database together."""
        try:
            observe = self._of_batch[operation]
        except KeyError:
            observe = self._of_batch[operation] = self._batch_size.labels(operation).observe
        observe(size)

    def on_overload(self) -> None:
        """Count a call that was refused because there are too many."""
        self._overloaded.inc()

    def watch(self, series: Series, value: Callable[[], float]) -> None:
        """Have `sample` note this value, which changes too often to be counted at every change."""
        gauge = Gauge(series.name, series.description, registry=self._own, multiprocess_mode="livesum")
        self._gauges.append((gauge, value))

    def sample(self) -> None:
        """Note the values that are watched, as they are now."""
        for gauge, value in self._gauges:
            gauge.set(value())

    def _resolve(self, method: str, code: str) -> tuple[Callable[[], None], Callable[[float], None]]:
        """What counts the calls of a method with a code. There are as many as methods times codes, and no more."""
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
