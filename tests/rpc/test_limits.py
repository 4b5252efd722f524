"""The limits that gRPC keeps for us, seen from a bare socket: HTTP/2 by hand (RFC 9113)."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.running import running_service, settings_for

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
PING = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + bytes(8)
SETTINGS_FRAME, GOAWAY_FRAME = 4, 7
MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE = 3, 6


@contextmanager
def serving(sqlite_url: str, **limits: Any) -> Iterator[tuple[str, int]]:
    with running_service(settings_for(sqlite_url, **limits)) as address:
        host, _, port = address.rpartition(":")
        yield host, int(port)


@contextmanager
def connected(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(PREFACE + EMPTY_SETTINGS)
        yield connection


def frames(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """The type and the payload of each frame, until the server closes the connection."""
    stream = connection.makefile("rb")
    with suppress(ConnectionResetError):
        while header := stream.read(9):
            yield header[3], stream.read(int.from_bytes(header[:3], "big"))


def first(kind: int, connection: socket.socket) -> bytes:
    return next(payload for found, payload in frames(connection) if found == kind)


def was_closed(connection: socket.socket) -> bool:
    """Wait for the server to close the connection."""
    for _ in frames(connection):
        pass
    return True


def test_a_connection_is_told_how_many_calls_and_how_much_metadata_it_may_carry(sqlite_url: str) -> None:
    with (
        serving(sqlite_url, max_concurrent_streams=7, max_metadata_bytes=4321) as address,
        connected(address) as connection,
    ):
        payload = first(SETTINGS_FRAME, connection)
    pairs = [payload[at : at + 6] for at in range(0, len(payload), 6)]
    told = {int.from_bytes(pair[:2], "big"): int.from_bytes(pair[2:], "big") for pair in pairs}
    assert told[MAX_CONCURRENT_STREAMS] == 7
    assert told[MAX_HEADER_LIST_SIZE] == 4321


@pytest.mark.parametrize("limit", ["max_connection_age", "max_connection_idle"])
def test_an_old_or_idle_connection_is_asked_to_close(sqlite_url: str, limit: str) -> None:
    with serving(sqlite_url, max_connection_age_grace=0.1, **{limit: 0.2}) as address, connected(address) as connection:
        reason = first(GOAWAY_FRAME, connection)[8:]
        assert reason in (b"max_age", b"connection idle")


def test_a_connection_that_does_not_speak_http2_in_time_is_closed(sqlite_url: str) -> None:
    with (
        serving(sqlite_url, handshake_timeout=0.2) as address,
        socket.create_connection(address, timeout=20) as connection,
    ):
        assert was_closed(connection)


def test_a_connection_that_does_not_acknowledge_the_limits_in_time_is_closed(sqlite_url: str) -> None:
    with serving(sqlite_url, handshake_timeout=0.2) as address, connected(address) as connection:
        assert was_closed(connection)


def test_one_connection_too_many_is_closed_and_another_may_take_the_place_of_one_that_left(sqlite_url: str) -> None:
    with serving(sqlite_url, max_connections=1) as address, connected(address) as allowed:
        first(SETTINGS_FRAME, allowed)
        with connected(address) as refused:
            assert was_closed(refused)


def test_a_client_that_asks_too_often_for_a_sign_of_life_is_sent_away(sqlite_url: str) -> None:
    with serving(sqlite_url, keepalive_min_interval=3600) as address, connected(address) as connection:
        connection.sendall(PING * 10)
        assert b"too_many_pings" in first(GOAWAY_FRAME, connection)


def test_a_silent_connection_is_closed_after_the_keepalive_timeout(sqlite_url: str) -> None:
    with serving(sqlite_url, keepalive_time=1, keepalive_timeout=1) as address, connected(address) as connection:
        assert was_closed(connection)  # this client answers no ping
