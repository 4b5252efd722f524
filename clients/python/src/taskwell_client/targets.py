"""Tells gRPC targets on this machine from all others."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import unquote


def is_local(target: str) -> bool:
    """True if the text of a gRPC target names only addresses of this machine.

    Names other than `localhost`, and schemes that are not known here, may lead anywhere: False.

        >>> is_local("127.0.0.1:50051"), is_local("dns:///tasks.example:50051")
        (True, False)
    """
    scheme, colon, rest = target.partition(":")
    if colon and scheme in {"unix", "unix-abstract"}:
        return True
    if colon and scheme in {"ipv4", "ipv6"}:
        return all(_is_loopback(_host(address)) for address in rest.split(","))
    if colon and scheme == "dns":
        # After the authority, which is the address of the DNS server: dns://resolver/host:port
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
