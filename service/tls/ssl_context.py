"""SSL contexts for the REST server: they follow renewed certificates, and check the names of clients."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from service.errors import PeerNotAllowed

_log = structlog.get_logger("rest")

if TYPE_CHECKING:
    from service.tls.certificates import Pem

CheckPeer = Callable[[Mapping[str, Sequence[bytes]]], None]
"""Raises PeerNotAllowed for the names in a client's certificate, which are keyed as in gRPC's auth_context."""

_KINDS = {"DNS": "peer_dns", "URI": "peer_uri"}


def server_context(
    cert: str, key: str, pem: Pem, renewed: Callable[[], Pem | None], check_peer: CheckPeer | None = None
) -> ssl.SSLContext:
    """Build the context to serve TLS with these files.

    Before each handshake `renewed` returns the new files, or None; it must not raise. With a CA of the clients, the
    handshake fails for a client without a certificate of that CA, or one that `check_peer` does not allow. Raises
    OSError (ssl.SSLError is one) for files that cannot be used.
    """
    latest = [_context(cert, key, pem)]

    def renew(connection: ssl.SSLObject, _name: str | None, _context_until_now: ssl.SSLContext) -> None:
        new = renewed()
        try:
            if new:
                latest[0] = _context(cert, key, new)
        except OSError as error:  # the files are being replaced; the next handshake tries again
            _log.warning("certificate not read", cause=str(error))
        connection.context = latest[0]

    first = latest[0]
    first.sni_callback = renew  # called whether or not the client names a server
    if check_peer:
        first.sslobject_class = _checking(check_peer)
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


def _checking(check_peer: CheckPeer) -> type[ssl.SSLObject]:
    """Return the class of connections whose handshake fails for a client that is not allowed."""

    class CheckedConnection(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            names = _names(self.getpeercert())
            try:
                check_peer(names)
            except PeerNotAllowed as error:
                _log.info(
                    "client refused", reason=error.reason, names=[name for kind in names.values() for name in kind]
                )
                raise ssl.SSLCertVerificationError(str(error)) from None

    return CheckedConnection


def _names(certificate: Mapping[str, Any] | None) -> dict[str, list[bytes]]:
    """Return the names in a verified certificate; none if there is no certificate."""
    given: Sequence[tuple[str, str]] = (certificate or {}).get("subjectAltName", ())
    return {ours: [name.encode() for kind, name in given if kind == theirs] for theirs, ours in _KINDS.items()}
