"""The metrics endpoint: samples the gauges once a second and serves Prometheus's text format over HTTP."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from service.address import Address
from service.metrics.recorder import CONNECTIONS, IN_FLIGHT, WAITING, Metrics

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_log = structlog.get_logger("metrics")

# Interval between samples of the gauges (s).
_SAMPLE_EVERY = 1.0
# Connections to the endpoint at once, and the time for a request and its response (s).
_MAX_CONNECTIONS = 32
_MAX_SECONDS = 10.0
_SERVER = "taskwell"


class MetricsEndpoint:
    """Serves `metrics`, which count the calls of `methods`: their full names, and the `grpc_type` of each.

    With a `worker` number, it shares its address with the endpoints of the other workers.
    """

    def __init__(self, address: Address, methods: Mapping[str, str], worker: int | None) -> None:
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
    server.set_app(_guarded(make_wsgi_app(registry)))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server.server_port


def _family_of(host: str, port: int) -> socket.AddressFamily:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]


def _guarded(app: WSGIApplication) -> WSGIApplication:
    """The application, without a version in the header `Server`; its failures are logged, and not written as text."""

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:  # noqa: ANN401 - of WSGI
            return start_response(status, [*headers, ("Server", _SERVER)], *error)

        try:
            return app(environ, start)
        except Exception:  # noqa: BLE001 - whatever a metrics file has in it
            _log.exception("metrics cannot be read")
            start("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"The metrics cannot be read: see the log.\n"]

    return respond


class _Server(ThreadingMixIn, WSGIServer):
    """Serves each connection in a thread. Connections are limited in number and in time, whatever is sent on them."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - of the class above
        self._opened: dict[socket.socket, float] = {}
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - of socketserver
        """Make room for the new connection, which may be a scrape, at the cost of the oldest."""
        for oldest in list(self._opened)[: len(self._opened) - _MAX_CONNECTIONS + 1]:
            self._opened.pop(oldest, None)
            _end(oldest)
        self._opened[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """End connections that are too old. `serve_forever` calls this about twice a second."""
        for request, opened in list(self._opened.items()):
            if time.monotonic() - opened > _MAX_SECONDS:
                _end(request)

    def close_request(self, request: Any) -> None:  # noqa: ANN401 - of socketserver
        self._opened.pop(request, None)
        super().close_request(request)

    def handle_error(self, *_: object) -> None:
        """Ignore clients that left; the traceback of anything else is logged."""
        if not isinstance(sys.exception(), OSError):
            _log.exception("scrape failed")


def _end(request: socket.socket) -> None:
    """Wake the thread that reads from or writes to this connection, and have it close the connection."""
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(WSGIRequestHandler):
    timeout = _MAX_SECONDS

    def version_string(self) -> str:
        """The header `Server` of errors."""
        return _SERVER

    def log_message(self, *_: object) -> None:
        """Log nothing: scrapes are too frequent."""
