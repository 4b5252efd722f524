"""The HTTP server of the metrics address: threads beside the event loop, limited in number and time."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog

from service.address import Address

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_log = structlog.get_logger("metrics")

# Connections at once, and the time for a request and its response (s).
_MAX_CONNECTIONS = 32
_MAX_SECONDS = 10.0

SERVER = "taskwell"
"""The header `Server`: it names no version."""


def serve(app: WSGIApplication, address: Address, *, shares_port: bool, tick: Callable[[], object]) -> int:
    """Serve the application until this process exits and return the port. Raises OSError if the address is in use.

    The thread of the server calls `tick` about twice a second.
    """

    class Server(_Server):
        address_family = _family_of(address)
        allow_reuse_port = shares_port

        def service_actions(self) -> None:
            super().service_actions()
            tick()

    server = Server((address.host, address.port), _Handler)
    server.set_app(app)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server.server_port


def _family_of(address: Address) -> socket.AddressFamily:
    return socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]


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
        return SERVER

    def log_message(self, *_: object) -> None:
        """Log nothing: scrapes are too frequent."""
