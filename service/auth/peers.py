"""Which services may speak for users: those whose certificate, verified by mutual TLS, has a name on a list."""

from collections.abc import Iterable, Mapping

from service.errors import PeerNotAllowed

# As gRPC names the kinds of subject alternative names (RFC 5280, 4.2.1.6). Neither an e-mail address nor a common name
# is a service's name, however it is spelt.
_KINDS = ("peer_dns", "peer_uri")


class Peers:
    """The list: DNS names and URIs (SPIFFE ids are URIs), compared byte by byte; a wildcard stands for itself."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.encode() for name in names)

    def require(self, connection: Mapping[str, Iterable[bytes]]) -> None:
        """Raise PeerNotAllowed unless the certificate behind a connection has one of the names."""
        if not any(name in self._names for kind in _KINDS for name in connection.get(kind, ())):
            raise PeerNotAllowed
