"""Builds the REST gateway from the settings, and serves it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware
from taskwell.v1 import tasks_pb2

from service.address import Address
from service.auth.metadata import USER_ID_KEY
from service.auth.modes import User
from service.auth.peers import Peers
from service.call_record import REQUEST_ID_KEY
from service.config.settings import Settings
from service.readiness import Readiness
from service.rest.connections import Limits
from service.rest.docs_pages import docs_pages
from service.rest.gateway import Calls, Gateway, Rules
from service.rest.health_checks import health_checks
from service.rest.http_server import HttpServer
from service.rest.routes import Routes
from service.server.sockets import bind
from service.tls.files import unusable
from service.tls.ssl_context import server_context

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from service.tls.certificates import Certificates
    from service.tracing.spans import CallTracer

# The header that names the caller, and the challenge of a 401 (RFC 9110, 11.6.1). X-User-Id is not a registered scheme,
# so that no browser asks for a password.
_CALLERS = {
    User.METADATA: (USER_ID_KEY, b'X-User-Id realm="taskwell"'),
    User.TOKEN: ("authorization", b'Bearer realm="taskwell"'),
}
_FORWARDED = ("traceparent",)
_CORS_METHODS = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE")
_CORS_REQUEST_HEADERS = (REQUEST_ID_KEY, "content-type", "grpc-timeout", "if-match", "if-none-match", "tracestate")
_CORS_RESPONSE_HEADERS = (REQUEST_ID_KEY, "etag", "retry-after", "www-authenticate")


class Rest:
    """The gateway to the methods of the contract, served at an address from `start` to `stop`."""

    def __init__(
        self,
        settings: Settings,
        address: Address,
        calls: Calls,
        readiness: Readiness,
        on_error: Callable[[str], None],
        tracer: CallTracer | None = None,
    ) -> None:
        self.address = address
        self._peers = Peers(settings.client_names) if settings.client_names else None
        key, challenge = _CALLERS[settings.auth_rule.user]
        forwarded = (key, *_FORWARDED)
        rules = Rules(
            forwarded={name.encode(): name for name in forwarded},
            challenge=challenge,
            hosts=settings.hosts and [name.lower() for name in settings.hosts],
            max_head_bytes=settings.max_metadata_bytes,
            max_body_bytes=settings.max_message_bytes,
            body_seconds=settings.rest_request_timeout,
        )
        # The OpenAPI document shows what reflection shows, to the same clients.
        scheme = "token" if settings.auth_rule.user is User.TOKEN else "user"
        pages = {**health_checks(readiness), **(docs_pages(scheme) if settings.reflection == "open" else {})}
        routes = Routes(*tasks_pb2.DESCRIPTOR.services_by_name.values())
        self._gateway = Gateway(routes, calls, rules, pages, on_error)
        app: ASGIApp = self._gateway
        if tracer:
            from service.tracing.http import TracedGateway

            app = TracedGateway(app, tracer, address, untraced=pages)
        if settings.cors_origins:
            app = CORSMiddleware(
                app,
                allow_origins=settings.cors_origins,
                allow_methods=_CORS_METHODS,
                allow_headers=(*forwarded, *_CORS_REQUEST_HEADERS),
                expose_headers=_CORS_RESPONSE_HEADERS,
            )
        limits = Limits(
            connections=settings.max_connections,
            head_bytes=settings.max_metadata_bytes,
            head_seconds=settings.rest_request_timeout,
            idle_seconds=settings.max_connection_idle,
            response_seconds=settings.rest_response_timeout,
            min_rate=settings.rest_min_rate,
        )
        self._server = HttpServer(app, limits)

    async def start(self, certificates: Certificates | None, *, shares_port: bool) -> None:
        """Accept requests, over TLS with certificates. From then on `address` has the port that was picked.

        Raises OSError if the address is taken, CertificateError if the certificates cannot be used.
        """
        tls = self._ssl_context(certificates) if certificates else None
        sockets = bind(self.address, shares=shares_port)
        self.address = Address(self.address.host, sockets[0].getsockname()[1])
        await self._server.start(sockets, tls)

    def drain(self) -> None:
        """Ask clients to close their connections after their next response."""
        self._gateway.drain()

    async def stop(self, grace: float) -> None:
        """Stop accepting, and let the requests in flight end within `grace` seconds."""
        await self._server.stop(grace)

    def _ssl_context(self, certificates: Certificates) -> ssl.SSLContext:
        check_peer, files = self._peers.require if self._peers else None, certificates.files
        try:
            return server_context(files.cert, files.key, certificates.pem, certificates.follow(), check_peer)
        except OSError as error:
            raise unusable("TLS_CERT", f"REST cannot serve TLS with it: {error}") from error
