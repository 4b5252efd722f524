"""The metrics endpoint: samples the gauges once a second and serves Prometheus's text format over HTTP."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from service.address import Address
from service.metrics.recorder import CONNECTIONS, IN_FLIGHT, WAITING, Metrics

# Interval between samples of the gauges (s).
_SAMPLE_EVERY = 1.0


class MetricsEndpoint:
    """Serves `metrics`, which count the calls of `methods`.

    With a `worker` number, it shares its address with the endpoints of the other workers.
    """

    def __init__(self, address: Address, methods: Iterable[str], worker: int | None) -> None:
        self.address = address
        self.metrics = Metrics(methods, worker)
        self._is_alone = worker is None
        self._sampling: asyncio.Task[None] | None = None

    def watch(
        self, *, in_flight: Callable[[], float], waiting: Callable[[], float], connections: Callable[[], float]
    ) -> None:
        """Set the functions to sample: calls in flight, calls waiting for the database, database connections in use."""
        for series, value in ((IN_FLIGHT, in_flight), (WAITING, waiting), (CONNECTIONS, connections)):
            self.metrics.watch(series, value)

    def start(self) -> None:
        """Start serving; `address` then has the actual port. Raises OSError if the address is in use."""
        host, port = self.address.host, self.address.port
        port = _serve(self.metrics.registry, host, port, shares_port=not self._is_alone)
        self.address = Address(host, port)
        self._sampling = asyncio.create_task(self._sample())

    def stop(self) -> None:
        """Stop sampling. The endpoint stays up until the process exits, so that the last counts can be scraped."""
        if self._sampling:
            self._sampling.cancel()

    async def _sample(self) -> None:
        while True:
            self.metrics.sample()
            await asyncio.sleep(_SAMPLE_EVERY)


def _serve(registry: CollectorRegistry, host: str, port: int, *, shares_port: bool) -> int:
    """Serve the registry until this process exits and return the port. Raises OSError if the address is in use."""

    class Server(_Server):
        address_family = _family_of(host, port)
        allow_reuse_port = shares_port

    server = Server((host, port), _Handler)
    server.set_app(make_wsgi_app(registry))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server.server_port


def _family_of(host: str, port: int) -> socket.AddressFamily:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = 10  # s; for a client that sends nothing

    def log_message(self, *_: object) -> None:
        """Log nothing: scrapes are too frequent."""
