"""An address that is kept for workers: theirs, and nobody else's."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from service.address import Address
from service.server.sockets import refuse_address_in_use, reserve

ANY_PORT = Address("127.0.0.1", 0)


@pytest.fixture
def kept() -> Iterator[Address]:
    with ExitStack() as opened:
        [bound] = [opened.enter_context(each) for each in reserve(ANY_PORT)]
        yield Address("127.0.0.1", bound.getsockname()[1])


@contextmanager
def listening(address: Address, *, shares: bool) -> Iterator[socket.socket]:
    """A server as gRPC makes it."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        server.bind((address.host, address.port))
        server.listen()
        yield server


def test_several_workers_listen_where_it_is_kept_for_them(kept: Address) -> None:
    with listening(kept, shares=True), listening(kept, shares=True):
        socket.create_connection((kept.host, kept.port)).close()


def test_nobody_is_listening_before_a_worker_does(kept: Address) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((kept.host, kept.port))


@pytest.mark.parametrize("workers", [0, 1])
def test_no_other_server_gets_it(kept: Address, workers: int) -> None:
    with ExitStack() as opened:
        for _ in range(workers):
            opened.enter_context(listening(kept, shares=True))
        with pytest.raises(OSError, match="in use"):
            reserve(kept)
        with pytest.raises(OSError, match="in use"):
            refuse_address_in_use(kept)
        with pytest.raises(OSError, match="in use"):
            opened.enter_context(listening(kept, shares=False))


@pytest.mark.parametrize("shares", [True, False])
def test_it_is_refused_where_another_server_listens(shares: bool) -> None:
    with listening(ANY_PORT, shares=shares) as other:
        taken = Address("127.0.0.1", other.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            reserve(taken)
        with pytest.raises(OSError, match="in use"):
            refuse_address_in_use(taken)


def test_what_a_server_left_behind_does_not_keep_it_from_the_next() -> None:
    with listening(ANY_PORT, shares=False) as before:
        address = Address("127.0.0.1", before.getsockname()[1])
        with socket.create_connection((address.host, address.port)):
            before.accept()[0].close()  # who closes first waits for late packets (TIME_WAIT)
    with ExitStack() as opened:
        [opened.enter_context(each) for each in reserve(address)]
        opened.enter_context(listening(address, shares=True))


def test_an_address_that_is_not_this_machines_cannot_be_kept() -> None:
    with pytest.raises(OSError, match="assign"):
        reserve(Address("192.0.2.1", 0))
