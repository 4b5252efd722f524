"""Addresses reserved for workers: no other server can listen on them."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from service.address import Address
from service.server.sockets import refuse_address_in_use, reserve

ANY_PORT = Address("127.0.0.1", 0)


@pytest.fixture
def reserved() -> Iterator[Address]:
    with ExitStack() as opened:
        [bound] = [opened.enter_context(each) for each in reserve(ANY_PORT)]
        yield Address("127.0.0.1", bound.getsockname()[1])


@contextmanager
def listening(address: Address, *, shares: bool) -> Iterator[socket.socket]:
    """Listen as a gRPC server does."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        server.bind((address.host, address.port))
        server.listen()
        yield server


def test_several_workers_listen_on_a_reserved_address(reserved: Address) -> None:
    with listening(reserved, shares=True), listening(reserved, shares=True):
        socket.create_connection((reserved.host, reserved.port)).close()


def test_a_reserved_address_does_not_listen(reserved: Address) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((reserved.host, reserved.port))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_reserved_address_is_refused_to_other_servers(reserved: Address, workers: int) -> None:
    with ExitStack() as opened:
        for _ in range(workers):
            opened.enter_context(listening(reserved, shares=True))
        with pytest.raises(OSError, match="in use"):
            reserve(reserved)
        with pytest.raises(OSError, match="in use"):
            refuse_address_in_use(reserved)
        with pytest.raises(OSError, match="in use"):
            opened.enter_context(listening(reserved, shares=False))


@pytest.mark.parametrize("shares", [True, False])
def test_an_address_in_use_cannot_be_reserved(shares: bool) -> None:
    with listening(ANY_PORT, shares=shares) as other:
        taken = Address("127.0.0.1", other.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            reserve(taken)
        with pytest.raises(OSError, match="in use"):
            refuse_address_in_use(taken)


def test_an_address_in_time_wait_can_be_reserved() -> None:
    with listening(ANY_PORT, shares=False) as before:
        address = Address("127.0.0.1", before.getsockname()[1])
        with socket.create_connection((address.host, address.port)):
            before.accept()[0].close()  # who closes first waits for late packets (TIME_WAIT)
    with ExitStack() as opened:
        [opened.enter_context(each) for each in reserve(address)]
        opened.enter_context(listening(address, shares=True))


def test_an_address_of_another_machine_cannot_be_reserved() -> None:
    with pytest.raises(OSError, match="assign"):
        reserve(Address("192.0.2.1", 0))
