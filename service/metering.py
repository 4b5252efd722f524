"""The metrics of a service, put together: what counts, what is sampled, and the door for Prometheus."""

import asyncio
from collections.abc import Iterable

from service.exposition import serve_metrics
from service.metrics import IN_FLIGHT, Metrics
from service.rpc.metered import Metered
from service.settings import Address

# How often the values that are watched are noted (s).
_SAMPLE_EVERY = 1.0


class Metering:
    """Counts the calls of `methods` once its `interceptor` is in place, and serves the counts once it is started.

    With a `worker` number it is one of several on the same address.
    """

    def __init__(self, address: Address, methods: Iterable[str], worker: int | None) -> None:
        self.address = address
        self._is_alone = worker is None
        self._metrics = Metrics(methods, worker)
        self.interceptor = Metered(self._metrics)
        self._metrics.watch(IN_FLIGHT, self.interceptor.in_flight)
        self._sampling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve them; `address` has the port that was picked from then on. Raises OSError if the address is taken."""
        host, port = self.address.host, self.address.port
        port = serve_metrics(self._metrics.registry, host, port, shares_port=not self._is_alone)
        self.address = Address(host, port)
        self._sampling = asyncio.create_task(self._sample())

    def stop(self) -> None:
        """Sample no more. The door stays open until the process ends: the last counts are worth a scrape too."""
        if self._sampling:
            self._sampling.cancel()

    async def _sample(self) -> None:
        while True:
            self._metrics.sample()
            await asyncio.sleep(_SAMPLE_EVERY)
