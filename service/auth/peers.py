"""The list of services that may call on behalf of users, by the names in their client certificates (mutual TLS)."""

from collections.abc import Iterable, Mapping

from service.errors import PeerNotAllowed

# gRPC's names for kinds of subject alternative names (RFC 5280, 4.2.1.6). E-mail addresses and the common name are not
# names of services, whatever they contain.
_KINDS = ("peer_dns", "peer_uri")


class Peers:
    """Allowed DNS names and URIs (SPIFFE ids are URIs), compared byte by byte. A wildcard matches only itself."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.encode() for name in names)

    def require(self, connection: Mapping[str, Iterable[bytes]]) -> None:
        """Raise PeerNotAllowed unless the client certificate of the connection has one of the names."""
        if not any(name in self._names for kind in _KINDS for name in connection.get(kind, ())):
            raise PeerNotAllowed
