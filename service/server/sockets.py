"""Addresses to listen on: refused where they are taken, and kept for several workers."""

import errno
import socket
from contextlib import ExitStack

from service.address import Address

# How often a port is picked until it is free under every address of a name.
_ATTEMPTS = 20


def refuse_taken(address: Address) -> None:
    """Raise OSError if any of the addresses of this name is in use: gRPC is content if one of them is free."""
    if address.port:
        for each in _bind_all(address):
            each.close()


def bind(address: Address, *, shares: bool) -> list[socket.socket]:
    """Sockets to listen on, on each of the addresses of this name; `shares` with others that do. Raises OSError."""
    return _bind_all(address, shares=shares)


def reserve(address: Address) -> list[socket.socket]:
    """Keep an address, on a port that is picked if it has none, for workers that share it.

    As long as these sockets are open, be it in a program that this process turns into (exec), nobody else can listen
    there, whether or not a worker does. Raises OSError if any of the addresses of the name is in use, or none is this
    machine's.
    """
    bound = _bind_all(address)
    for each in bound:
        # In this order: until here it shares with nobody, so two servers that start at once do not join each other.
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        each.set_inheritable(True)
    return bound


def _bind_all(address: Address, *, shares: bool = False) -> list[socket.socket]:
    """A socket on each address of the name that this machine has, all on one port. Raises OSError as `reserve` does."""
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
