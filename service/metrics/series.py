"""Definitions of the metrics: names, labels, and how the values of several workers become one.

No label has a value that a caller sends: calls of unknown methods are counted with the method `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import Literal, TypeAlias

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds of the buckets of every duration (s), so that one duration can be compared with another."""
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Kind(Enum):
    """Type of a metric, as Prometheus spells it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Series:
    """Definition of a metric: name, labels, and the description for operators."""

    name: str
    labels: tuple[str, ...]
    description: str
    kind: Kind = Kind.COUNTER
    buckets: tuple[float, ...] = ()
    of_workers: Literal["sum", "max", "min", "each"] = "sum"
    """How the values of several workers are shown; `each` has the label `worker`."""

    @property
    def size(self) -> int:
        """The number of values: a histogram has one for each bucket, one for +Inf, and the sum."""
        return len(self.buckets) + 2 if self.kind is Kind.HISTOGRAM else 1


Labels: TypeAlias = tuple[str, ...]
"""The values of a metric's labels, without `worker`."""
Row: TypeAlias = tuple[Series, Labels]


def _counter(name: str, labels: tuple[str, ...], description: str) -> Series:
    return Series(name, labels, description)


def _gauge(
    name: str,
    labels: tuple[str, ...],
    description: str,
    of_workers: Literal["sum", "max", "min", "each"] = "sum",
) -> Series:
    labels = (*labels, "worker") if of_workers == "each" else labels
    return Series(name, labels, description, Kind.GAUGE, of_workers=of_workers)


def _seconds(name: str, labels: tuple[str, ...], description: str) -> Series:
    return Series(name, labels, description, Kind.HISTOGRAM, SECONDS)


# The names that begin with `grpc_` follow go-grpc-middleware, with codes as Go spells them, so that its dashboards and
# alerts work.
_METHOD = ("grpc_type", "grpc_service", "grpc_method")
STARTED = _counter("grpc_server_started_total", _METHOD, "Calls that have started")
RECEIVED = _counter("grpc_server_msg_received_total", _METHOD, "Request messages received")
SENT = _counter("grpc_server_msg_sent_total", _METHOD, "Response messages sent")
HANDLED = _counter(
    "grpc_server_handled_total", (*_METHOD, "grpc_code"), "Finished calls, by status code (OK, NotFound)"
)
HANDLING = _seconds("grpc_server_handling_seconds", _METHOD, "Duration of calls (s); of streams, until their end")
ERRORS = _counter("taskwell_errors_total", ("reason", "api"), "Failed calls, by the reason in ErrorInfo and the API")
OVERLOADED = _counter("taskwell_overloaded_total", (), "Calls refused because too many were in flight or waiting")
IN_FLIGHT = _gauge("taskwell_calls_in_flight", (), "Task calls in flight")
WAITING = _gauge("taskwell_calls_waiting", (), "Task calls waiting to be sent to the database")

BATCH_SIZE = Series(
    "taskwell_batch_size", ("operation",), "Calls in each batch sent to the database", Kind.HISTOGRAM, _SIZES
)
QUEUE = _seconds("taskwell_queue_seconds", ("operation",), "Time of each call from its arrival to its batch (s)")
CONNECTION_WAIT = _seconds(
    "taskwell_connection_wait_seconds", ("operation",), "Time of each statement until it had a connection (s)"
)
STATEMENT = _seconds(
    "taskwell_statement_seconds", ("operation",), "Duration of each statement, with the round trip (s)"
)
STATEMENT_RETRIES = _counter("taskwell_statement_retries_total", ("cause",), "Statements run again, by cause")
STATEMENTS_CANCELLED = _counter(
    "taskwell_statements_cancelled_total", (), "Statements cancelled because nobody waited for them any longer"
)

DATABASE_UP = _gauge(
    "taskwell_database_up",
    (),
    "0 after the database could not be reached or fell silent, 1 after the next success",
    "min",
)
POOL_SIZE = _gauge("taskwell_database_pool_size", (), "Limit of the number of database connections")
CONNECTIONS_OPEN = _gauge("taskwell_database_connections_open", (), "Open database connections")
CONNECTIONS = _gauge("taskwell_database_connections_in_use", (), "Database connections in use")
CONNECTION_WAITS = _counter(
    "taskwell_database_connection_waits_total", (), "Statements that had to wait for a database connection"
)
CONNECTION_TIMEOUTS = _counter(
    "taskwell_database_connection_timeouts_total", (), "Statements that got no database connection in time"
)
CONNECTIONS_OPENED = _counter("taskwell_database_connections_opened_total", (), "Database connections opened")
CONNECTIONS_CLOSED = _counter(
    "taskwell_database_connections_closed_total", ("cause",), "Database connections closed or lost, by cause"
)
CONNECT_FAILURES = _counter(
    "taskwell_database_connect_failures_total", (), "Failed attempts to open a database connection"
)

DATABASE_FAILURES = _counter(
    "taskwell_database_failures_total",
    ("cause",),
    "Failed connects and statements, by what is wrong with the database: it is away, silent, locked, or a standby, "
    "its disk is full, or it lacks rights or tables (unusable)",
)

READY = _gauge("taskwell_ready", (), "1 if the worker is ready to serve, else 0", "each")
LOOP_LAG = _gauge(
    "taskwell_event_loop_lag_seconds", (), "Longest delay of the event loop in the last 15 seconds (s)", "each"
)
WORKERS = _gauge(
    "taskwell_workers",
    ("state",),
    "Workers, by state: configured are those that should run, ready are those that accept calls",
)
WORKER_RESTARTS = _counter(
    "taskwell_worker_restarts_total",
    ("cause",),
    "Restarts of workers, by cause: exit; hang, if no heartbeat came; start, if it never became ready",
)
HEARTBEAT_AGE = _gauge(
    "taskwell_worker_heartbeat_age_seconds", (), "Time since the last heartbeat of the worker (s)", "each"
)
LINES_DROPPED = _counter("taskwell_log_lines_dropped_total", (), "Log lines that could not be written")
FILES_UNREADABLE = _gauge(
    "taskwell_metrics_files_unreadable",
    (),
    "Metrics files of workers that cannot be read: this scrape lacks their counts",
    "max",
)
TLS_NOT_AFTER = _gauge(
    "taskwell_tls_not_after_timestamp_seconds",
    ("file",),
    "End of the validity of a certificate (Unix time); only with TLS",
    "min",
)
JWKS_LAST_SUCCESS = _gauge(
    "taskwell_jwks_last_success_timestamp_seconds",
    (),
    "Last time that the keys of the issuer were read (Unix time), 0 for never; only with a JWKS",
    "min",
)
JWKS_REFRESHES = _counter("taskwell_jwks_refreshes_total", ("outcome",), "Attempts to read the keys of the issuer")
BUILD = _gauge(
    "taskwell_build_info",
    ("version", "python_version", "grpc_version"),
    "1, with the versions of this server",
    "max",
)

# Read from /proc by prometheus_client at each scrape; Linux only.
PROCESS = (
    Series("process_cpu_seconds_total", ("worker",), "CPU time of the process (s)", of_workers="each"),
    _gauge("process_resident_memory_bytes", (), "Resident memory (bytes)", "each"),
    _gauge("process_virtual_memory_bytes", (), "Virtual memory (bytes)", "each"),
    _gauge("process_start_time_seconds", (), "Start of the process (Unix time)", "each"),
    _gauge("process_open_fds", (), "Open file descriptors", "each"),
    _gauge("process_max_fds", (), "Limit of open file descriptors", "each"),
)

# Series whose values outlive a worker: the one that replaces it goes on counting. All others end with it.
COUNTED = (
    *(STARTED, RECEIVED, SENT, HANDLED, HANDLING, ERRORS, OVERLOADED),
    *(BATCH_SIZE, QUEUE, CONNECTION_WAIT, STATEMENT, STATEMENT_RETRIES, STATEMENTS_CANCELLED),
    *(CONNECTION_WAITS, CONNECTION_TIMEOUTS, CONNECTIONS_OPENED, CONNECTIONS_CLOSED, CONNECT_FAILURES),
    *(DATABASE_FAILURES, LINES_DROPPED, JWKS_REFRESHES),
)
CURRENT = (
    *(IN_FLIGHT, WAITING, DATABASE_UP, POOL_SIZE, CONNECTIONS_OPEN, CONNECTIONS),
    *(READY, LOOP_LAG, TLS_NOT_AFTER, JWKS_LAST_SUCCESS),
)
SUPERVISED = (WORKERS, WORKER_RESTARTS, HEARTBEAT_AGE)
"""Series that the supervisor records."""
ALL_SERIES = (*COUNTED, *CURRENT, *SUPERVISED, FILES_UNREADABLE, BUILD, *PROCESS)
PID = _gauge("pid", (), "Process id", "each")
"""What a worker tells the one that is scraped, but no scrape."""

UNKNOWN_METHOD = ("unary", "unknown", "unknown")
CODES = {
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
"""Every status code, and how Go spells it."""

# Values of the other labels. All are known at the start, so that each series is there, as 0, before its first event:
# the first failure of a kind is then an increase, which alerts see.
_VALUES = {
    "operation": ("get", "list", "create", "update", "delete", "other"),
    "grpc_code": tuple(CODES.values()),
    "outcome": ("ok", "failed"),
    "file": ("certificate", "client_ca"),
    "state": ("configured", "ready"),
}
_CAUSES = {
    STATEMENT_RETRIES: ("conflict", "lost", "not_done", "stale_plan"),
    CONNECTIONS_CLOSED: ("age", "lost", "surplus", "shutdown"),
    DATABASE_FAILURES: ("away", "silent", "locked", "disk_full", "read_only", "unusable"),
    WORKER_RESTARTS: ("exit", "hang", "start"),
}


def rows_of(
    series: Iterable[Series], methods: Iterable[tuple[str, str, str]] = (), errors: Iterable[tuple[str, str]] = ()
) -> list[Row]:
    """Every combination of label values; `methods` are those of `grpc_*`, `errors` pairs of reason and API."""
    rows: list[Row] = []
    for each in series:
        if each is ERRORS:
            rows += [(each, labels) for labels in errors]
            continue
        is_of_methods = each.labels[:3] == _METHOD
        rest = [label for label in each.labels[3 * is_of_methods :] if label != "worker"]
        values = [_CAUSES[each] if label == "cause" else _VALUES[label] for label in rest]
        first: Iterable[tuple[str, ...]] = methods if is_of_methods else [()]
        rows += [(each, (*before, *after)) for before in first for after in product(*values)]
    return rows
