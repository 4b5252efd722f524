"""Where a target is: whether what is sent to it stays on this machine."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import unquote


def is_local(target: str) -> bool:
    """Whether every address of a gRPC target is this machine's own, as far as its text says.

    A name that is not `localhost` may be anybody's, and so is what a resolver of an unknown scheme finds.

        >>> is_local("127.0.0.1:50051"), is_local("dns:///tasks.example:50051")
        (True, False)
    """
    scheme, colon, rest = target.partition(":")
    if colon and scheme in {"unix", "unix-abstract"}:
        return True
    if colon and scheme in {"ipv4", "ipv6"}:
        return all(_is_loopback(_host(address)) for address in rest.split(","))
    if colon and scheme == "dns":
        # Behind the authority, which is the resolver's own address: dns://resolver/host:port
        return _is_loopback(_host(rest.rpartition("/")[2]))
    return _is_loopback(_host(target))


def _host(address: str) -> str:
    """The host of `host`, `host:port`, `[host]` or `[host]:port`."""
    address = unquote(address)
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address if address.count(":") > 1 else address.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
