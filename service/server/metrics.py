"""Builds the metrics, and names the values that they sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from service.db.engine import Database
from service.metrics import series
from service.metrics.files import Sharing
from service.metrics.recorder import Metrics
from service.rest.responses import REASONS
from service.rpc.policy import Access, grpc_types
from service.rpc.status import CODES
from service.standard_streams import dropped_lines

if TYPE_CHECKING:
    from service.auth.keys import IssuerKeys
    from service.tls.certificates import Certificates


def make_metrics(policy: Mapping[str, Access], sharing: Sharing | None) -> Metrics:
    """The metrics of this process, with the log lines that it has dropped."""
    reasons = sorted({error.reason for error in CODES})
    errors = [(reason, "grpc") for reason in reasons]
    errors += [(reason, "rest") for reason in sorted({*reasons, *REASONS})]
    metrics = Metrics(grpc_types(policy), errors, sharing)
    metrics.watch(series.LINES_DROPPED, dropped_lines)
    return metrics


def watch_database(metrics: Metrics, database: Database) -> None:
    """Sample the state of the connection pool, and what happened to statements and connections."""
    pool, counts = database.pool, database.pool.counts
    values: dict[series.Series, Callable[[], float]] = {
        series.DATABASE_UP: lambda: pool.is_database_up,
        series.POOL_SIZE: lambda: pool.limit,
        series.CONNECTIONS_OPEN: lambda: pool.open,
        series.CONNECTIONS: lambda: pool.in_use,
        series.CONNECTION_WAITS: lambda: counts.waits,
        series.CONNECTION_TIMEOUTS: lambda: counts.timeouts,
        series.CONNECTIONS_OPENED: lambda: counts.opened,
        series.CONNECT_FAILURES: lambda: counts.connect_failures,
        series.STATEMENTS_CANCELLED: lambda: database.cancelled,
    }
    for each, value in values.items():
        metrics.watch(each, value)
    for trouble in counts.troubles:
        metrics.watch(series.DATABASE_FAILURES, partial(counts.troubles.__getitem__, trouble), trouble)
    for closed in counts.closed:
        metrics.watch(series.CONNECTIONS_CLOSED, partial(counts.closed.__getitem__, closed), closed)
    for retried in database.retries:
        metrics.watch(series.STATEMENT_RETRIES, partial(database.retries.__getitem__, retried), retried.name.lower())


def watch_certificates(metrics: Metrics, certificates: Certificates) -> None:
    """Sample when the certificates end that are in use."""

    def end_of(file: str) -> float:
        now = datetime.now(UTC)
        return certificates.pem.ends(now)[file].timestamp()

    for file in certificates.pem.ends(datetime.now(UTC)):
        metrics.watch(series.TLS_NOT_AFTER, partial(end_of, file), file)


def watch_keys(metrics: Metrics, keys: IssuerKeys) -> None:
    """Sample when the keys of the issuer were read."""
    metrics.watch(series.JWKS_LAST_SUCCESS, keys.last_read_at)
    for outcome in keys.refreshes:
        metrics.watch(series.JWKS_REFRESHES, partial(keys.refreshes.__getitem__, outcome), outcome)
