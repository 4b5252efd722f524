"""The metrics endpoint: samples the gauges once a second and serves them, and the probes, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from prometheus_client import make_wsgi_app

from service.address import Address
from service.metrics.http_server import serve
from service.metrics.probes import LoopWatch, pages
from service.metrics.recorder import CONNECTIONS, IN_FLIGHT, WAITING, Metrics
from service.metrics.supervision import WorkerMetrics
from service.readiness import Readiness

# Interval between samples of the gauges (s).
_SAMPLE_EVERY = 1.0
# Interval between notes that the event loop runs (s).
_BEAT_EVERY = 1.0


class MetricsEndpoint:
    """Serves `metrics`, which count the calls of `methods`: their full names, and the `grpc_type` of each.

    With a `worker` number, it shares its address with the endpoints of the other workers. The process is not alive
    when its event loop stands still for `hang_timeout` seconds.
    """

    def __init__(
        self,
        address: Address,
        methods: Mapping[str, str],
        worker: int | None,
        *,
        readiness: Readiness,
        hang_timeout: float,
    ) -> None:
        self.address = address
        self._readiness = readiness
        self._watch = LoopWatch(hang_timeout)
        self.metrics = Metrics(methods, worker)
        self._is_alone = worker is None
        if worker is None:
            workers = WorkerMetrics(range(1), self.metrics.registry)
            workers.on_ready(1)
            workers.watch_heartbeat(0, lambda: self._watch.silent)
        self._sampling: asyncio.Task[None] | None = None

    def watch(
        self, *, in_flight: Callable[[], float], waiting: Callable[[], float], connections: Callable[[], float]
    ) -> None:
        """Set the functions to sample: calls in flight, calls waiting for the database, database connections in use."""
        for series, value in ((IN_FLIGHT, in_flight), (WAITING, waiting), (CONNECTIONS, connections)):
            self.metrics.watch(series, value)

    def start(self) -> None:
        """Start serving; `address` then has the actual port. Raises OSError if the address is in use."""
        app = pages(make_wsgi_app(self.metrics.registry), self._readiness, self._watch)
        port = serve(app, self.address, shares_port=not self._is_alone, tick=self._watch.tick)
        self.address = Address(self.address.host, port)
        self._beating = asyncio.create_task(self._beat())
        self._sampling = asyncio.create_task(self._sample())

    def stop(self) -> None:
        """Stop sampling. The endpoint stays up until the process exits, so that the last counts can be scraped."""
        if self._sampling:
            self._sampling.cancel()

    async def _sample(self) -> None:
        while True:
            self.metrics.sample()
            await asyncio.sleep(_SAMPLE_EVERY)

    async def _beat(self) -> None:
        """Note that the event loop runs, until it ends: also while calls drain."""
        while True:
            self._watch.beat()
            await asyncio.sleep(_BEAT_EVERY)
