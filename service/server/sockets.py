"""Listening sockets: refuses addresses that are in use, and reserves addresses for several workers."""

import errno
import socket
from contextlib import ExitStack

from service.address import Address

# Attempts to pick a port that is free on every address of a host name.
_ATTEMPTS = 20


def refuse_address_in_use(address: Address) -> None:
    """Raise OSError if any address of the host name is in use: gRPC itself starts if one of them is free."""
    if address.port:
        for each in _bind_all(address):
            each.close()


def bind(address: Address, *, shares: bool) -> list[socket.socket]:
    """Return bound sockets, one for each address of the host name. Raises OSError.

    With `shares`, other sockets that do the same may share the port (SO_REUSEPORT).
    """
    return _bind_all(address, shares=shares)


def reserve(address: Address) -> list[socket.socket]:
    """Reserve an address for workers that share it; port 0 picks a port.

    While these sockets are open, also after an exec, no other program can listen on the address, even if no worker
    does. Raises OSError if an address of the host name is in use, or if none belongs to this machine.
    """
    bound = _bind_all(address)
    for each in bound:
        # Only after bind, so that two servers that start at the same time cannot share the port.
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        each.set_inheritable(True)
    return bound


def _bind_all(address: Address, *, shares: bool = False) -> list[socket.socket]:
    """Bind a socket on each local address of the host name, all on one port. Raises OSError as `reserve` does."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return _bind_each(address, shares=shares)
        except OSError:
            if address.port:
                raise
    return _bind_each(address, shares=shares)


def _bind_each(address: Address, *, shares: bool) -> list[socket.socket]:
    bound: list[socket.socket] = []
    refusal = OSError(f"{address.host} has no address")
    with ExitStack() as opened:
        for family, kind, protocol, _, place in socket.getaddrinfo(address.host, None, type=socket.SOCK_STREAM):
            port = bound[0].getsockname()[1] if bound else address.port
            try:
                each = opened.enter_context(socket.socket(family, kind, protocol))
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
                each.bind((place[0], port, *place[2:]))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise
                refusal = error
            else:
                bound.append(each)
        if not bound:
            raise refusal
        opened.pop_all()
    return bound
