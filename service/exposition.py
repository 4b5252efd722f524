"""The door for Prometheus: an HTTP server in a thread of its own, which answers every scrape with the text format."""

import socket
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app


def serve_metrics(registry: CollectorRegistry, host: str, port: int, *, shares_port: bool) -> int:
    """Serve the registry at `/metrics` until this process ends; answers the port. Raises OSError if it is taken."""

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
    timeout = 10  # s; for a client that says nothing

    def log_message(self, *_: object) -> None:
        """Scrapes are not worth a line each."""
