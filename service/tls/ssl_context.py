"""SSL contexts for the REST gateway that use renewed certificates without a restart."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

_log = structlog.get_logger("rest")

if TYPE_CHECKING:
    from service.tls.certificates import Pem


def server_context(cert: str, key: str, pem: Pem, renewed: Callable[[], Pem | None]) -> ssl.SSLContext:
    """A context that serves these files and calls `renewed` before each handshake. It must not raise.

    With a client CA, a client that has no certificate of that CA is refused in the handshake. Raises OSError, or
    ssl.SSLError for files that cannot be used.
    """
    latest = [_context(cert, key, pem)]

    def renew(connection: ssl.SSLObject, _name: str | None, _context_until_now: ssl.SSLContext) -> None:
        new = renewed()
        try:
            if new:
                latest[0] = _context(cert, key, new)
        except OSError as error:  # the files are just being replaced; the next handshake tries again
            _log.warning("certificate not read", cause=str(error))
        connection.context = latest[0]

    first = latest[0]
    first.sni_callback = renew  # called also for clients that send no server name
    return first


def _context(cert: str, key: str, pem: Pem) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(cert, key)
    if pem.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=pem.client_ca.decode())
    return context
