"""Addresses of servers: a host and a port."""

import ipaddress
import re
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port to listen on; port 0 picks a free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach the address. A name that cannot be resolved counts as reachable."""
        try:
            found = {str(info[4][0]) for info in socket.getaddrinfo(self.host, None)}
        except (OSError, UnicodeError):
            return False
        return all(ipaddress.ip_address(host.partition("%")[0]).is_loopback for host in found)


def parse_address(text: str) -> Address:
    """Parse `host:port` or `[ipv6]:port`. Raises ValueError with a message for operators."""
    parts = re.fullmatch(r"(?:\[(?P<ipv6>[^][]+)\]|(?P<host>[^:]+)):(?P<port>[^:]*)", text)
    if parts is None:
        hint = ", with an IPv6 address in brackets: [::1]:50051" if text.count(":") > 1 else ""
        raise ValueError(f"must be host:port, for example 127.0.0.1:50051{hint}")
    port = parts["port"]
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("must end in a port from 0 to 65535")
    return Address(parts["ipv6"] or parts["host"], int(port))
