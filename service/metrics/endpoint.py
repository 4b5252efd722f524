"""The metrics endpoint: samples once a second, and serves the metrics and the probes over HTTP."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic

from prometheus_client import make_wsgi_app

from service.address import Address
from service.metrics.exposition import registry_of
from service.metrics.http_server import serve
from service.metrics.probes import LoopWatch, pages
from service.metrics.recorder import Metrics
from service.metrics.series import LOOP_LAG
from service.readiness import Readiness

# Interval between samples, in which the loop also notes that it runs (s), and the number of looks at its delay.
_SAMPLE_EVERY = 1.0
_LOOKS = 10
# The delay of the event loop is the longest of this many seconds, so that scrapes that are rarer see it.
_LAG_SECONDS = 15


class MetricsEndpoint:
    """Serves `metrics` at an address; several workers share theirs.

    The process is not alive when its event loop stands still for `hang_timeout` seconds.
    """

    def __init__(self, address: Address, metrics: Metrics, *, readiness: Readiness, hang_timeout: float) -> None:
        self.address = address
        self._metrics = metrics
        self._readiness = readiness
        self._watch = LoopWatch(hang_timeout)
        self._lag = LoopLag()
        metrics.watch(LOOP_LAG, self._lag.longest)

    def start(self) -> None:
        """Start serving; `address` then has the actual port. Raises OSError if the address is in use.

        It is served until the process exits, so that the last counts can be scraped.
        """
        app = pages(make_wsgi_app(registry_of(self._metrics, lambda: self._watch.silent)), self._readiness, self._watch)
        port = serve(app, self.address, shares_port=self._metrics.sharing is not None, tick=self._watch.tick)
        self.address = Address(self.address.host, port)
        self._metrics.sample()
        self._sampling = asyncio.create_task(self._sample())

    async def _sample(self) -> None:
        """Sample and note that the event loop runs, until it ends: also while calls drain."""
        pause = _SAMPLE_EVERY / _LOOKS
        while True:
            self._watch.beat()
            for _ in range(_LOOKS):
                due = monotonic() + pause
                await asyncio.sleep(pause)
                self._lag.see(monotonic() - due)
            self._metrics.sample()


class LoopLag:
    """The longest delay of the event loop in the last seconds; `longest` begins a new second each time."""

    def __init__(self) -> None:
        self._longest = deque([0.0], maxlen=_LAG_SECONDS)

    def see(self, delay: float) -> None:
        """Record how much later than asked the loop has run something (s)."""
        self._longest[-1] = max(self._longest[-1], delay)

    def longest(self) -> float:
        longest = max(self._longest)
        self._longest.append(0.0)
        return longest
