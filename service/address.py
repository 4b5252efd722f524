"""Where a server listens: a host and a port."""

import ipaddress
import re
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host and a port; port 0 picks a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name is looked up; one that cannot be is taken for reachable."""
        try:
            found = {str(info[4][0]) for info in socket.getaddrinfo(self.host, None)}
        except (OSError, UnicodeError):
            return False
        return all(ipaddress.ip_address(host.partition("%")[0]).is_loopback for host in found)


def parse_address(text: str) -> Address:
    """Read `host:port` or `[ipv6]:port`. Raises ValueError with a sentence for whoever set it."""
    parts = re.fullmatch(r"(?:\[(?P<ipv6>[^][]+)\]|(?P<host>[^:]+)):(?P<port>[^:]*)", text)
    if parts is None:
        hint = ", with an IPv6 address in brackets: [::1]:50051" if text.count(":") > 1 else ""
        raise ValueError(f"must be host:port, for example 127.0.0.1:50051{hint}")
    port = parts["port"]
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("must end in a port from 0 to 65535")
    return Address(parts["ipv6"] or parts["host"], int(port))
