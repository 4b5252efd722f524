"""The wiring of the REST door: what the settings say, made into a door."""

import ssl

from starlette.types import ASGIApp
from taskwell.v1 import tasks_pb2

from service.address import Address
from service.auth.metadata import USER_ID_KEY
from service.auth.modes import User
from service.config.settings import Settings
from service.rest.door import Call, Door, Terms
from service.rest.headers import Hosts
from service.rest.limits import Limits
from service.rest.listener import Listener
from service.rest.origins import Origins
from service.rest.pages import routes
from service.rest.probes import probes
from service.rest.routes import Routes
from service.server.sockets import bind
from service.tls.certificates import Certificates
from service.tls.files import unusable
from service.tls.ssl_context import server_context

# What names the caller, and how a client is told to do so (RFC 9110, 11.6.1; a gateway's key is no scheme that any
# registry knows, and makes no browser ask for a password).
_CALLERS = {
    User.METADATA: (USER_ID_KEY, b'X-User-Id realm="taskwell"'),
    User.TOKEN: ("authorization", b'Bearer realm="taskwell"'),
}
_CROSSING = ("traceparent", "x-request-id")
_ASKED = ("content-type", "grpc-timeout", "if-match", "if-none-match")
_TOLD = ("etag", "retry-after", "www-authenticate")


class Rest:
    """The door, at an address from `start` to `stop`. It makes its calls by `call`, and of the contract's routes."""

    def __init__(self, settings: Settings, address: Address, call: Call) -> None:
        self.address = address
        self._files = settings.tls
        key, challenge = _CALLERS[settings.auth_rule.user]
        crossing = (key, *_CROSSING)
        terms = Terms(
            crossing={name.encode(): name for name in crossing},
            challenge=challenge,
            max_body_bytes=settings.max_message_bytes,
            hosts=Hosts(settings.hosts),
        )
        # The document says what reflection does, to whoever asks.
        pages = [*probes(call), *(routes() if settings.reflection == "open" else ())]
        app: ASGIApp = Door(Routes(*tasks_pb2.DESCRIPTOR.services_by_name.values()), call, terms, pages)
        if settings.cors_origins:
            app = Origins(
                app,
                allow_origins=settings.cors_origins,
                allow_methods=("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"),
                allow_headers=(*crossing, *_ASKED),
                expose_headers=_TOLD,
            )
        limits = Limits(
            connections=settings.max_connections,
            head_bytes=settings.max_metadata_bytes,
            body_bytes=settings.max_message_bytes,
            request_seconds=settings.rest_request_timeout,
            idle_seconds=settings.max_connection_idle,
            age_seconds=settings.max_connection_age,
        )
        self._listener = Listener(app, limits)

    async def start(self, *, shares_port: bool) -> None:
        """Accept requests; `address` has the port that was picked from then on.

        Raises OSError if the address is taken, CertificateError for certificates that are no use.
        """
        tls = self._tls()
        sockets = bind(self.address, shares=shares_port)
        self.address = Address(self.address.host, sockets[0].getsockname()[1])
        await self._listener.start(sockets, tls)

    def retire(self) -> None:
        """Have clients told that they are served for the last time on their connections."""
        self._listener.retire()

    async def stop(self, grace: float) -> None:
        """Accept no more, and let what was begun be answered within `grace` seconds."""
        await self._listener.stop(grace)

    def _tls(self) -> ssl.SSLContext | None:
        if self._files is None:
            return None
        certificates = Certificates(self._files)
        try:
            return server_context(self._files.cert, self._files.key, certificates.pem, certificates.renewed)
        except OSError as error:
            raise unusable("TLS_CERT", f"REST cannot serve TLS with it: {error}") from error
