"""The metrics of a service, put together: what counts, what is sampled, and the door for Prometheus."""

import asyncio
from collections.abc import Callable, Iterable

from service.address import Address
from service.exposition import serve_metrics
from service.metrics import CONNECTIONS, IN_FLIGHT, WAITING, Metrics

# How often the values that are watched are noted (s).
_SAMPLE_EVERY = 1.0


class Metering:
    """The `metrics` of the calls of `methods`, served once it is started.

    With a `worker` number it is one of several on the same address.
    """

    def __init__(self, address: Address, methods: Iterable[str], worker: int | None) -> None:
        self.address = address
        self.metrics = Metrics(methods, worker)
        self._is_alone = worker is None
        self._sampling: asyncio.Task[None] | None = None

    def watch(
        self, *, in_flight: Callable[[], float], waiting: Callable[[], float], connections: Callable[[], float]
    ) -> None:
        """Note now and then what these answer: calls under way, calls that wait, database connections in use."""
        for series, value in ((IN_FLIGHT, in_flight), (WAITING, waiting), (CONNECTIONS, connections)):
            self.metrics.watch(series, value)

    def start(self) -> None:
        """Serve them; `address` has the port that was picked from then on. Raises OSError if the address is taken."""
        host, port = self.address.host, self.address.port
        port = serve_metrics(self.metrics.registry, host, port, shares_port=not self._is_alone)
        self.address = Address(host, port)
        self._sampling = asyncio.create_task(self._sample())

    def stop(self) -> None:
        """Sample no more. The door stays open until the process ends: the last counts are worth a scrape too."""
        if self._sampling:
            self._sampling.cancel()

    async def _sample(self) -> None:
        while True:
            self.metrics.sample()
            await asyncio.sleep(_SAMPLE_EVERY)
