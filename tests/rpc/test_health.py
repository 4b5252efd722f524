"""The health service, and that no watcher can do harm to another or to the shutdown."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.running import refused, running_service, settings_for

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
NAMES = ("", "taskwell.v1.TaskService")


def health_of(channel: grpc.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def watch(channel: grpc.Channel, service: str = "") -> Iterator[health_pb2.HealthCheckResponse]:
    answers: Iterator[health_pb2.HealthCheckResponse] = health_of(channel).Watch(
        health_pb2.HealthCheckRequest(service=service), timeout=30
    )
    return answers


@pytest.mark.parametrize("service", NAMES)
def test_a_server_that_serves_says_so_without_a_caller(sqlite_channel: grpc.Channel, service: str) -> None:
    answer = health_of(sqlite_channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    assert answer.status == SERVING
    assert next(watch(sqlite_channel, service)).status == SERVING


def test_a_service_that_is_not_there_is_not_found(sqlite_channel: grpc.Channel) -> None:
    with refused(StatusCode.NOT_FOUND, "SERVICE_UNKNOWN"):
        health_of(sqlite_channel).Check(health_pb2.HealthCheckRequest(service="tasks"), timeout=30)
    assert next(watch(sqlite_channel, "tasks")).status == SERVICE_UNKNOWN


def test_a_watcher_that_reads_nothing_holds_up_neither_the_others_nor_the_shutdown(sqlite_url: str) -> None:
    with ExitStack() as stack:
        service = running_service(settings_for(sqlite_url))
        address = stack.enter_context(service)
        host, _, port = address.rpartition(":")
        deaf = stack.enter_context(socket.create_connection((host, int(port))))
        deaf.sendall(WATCH_WITHOUT_WINDOW)
        channel = stack.enter_context(grpc.insecure_channel(address))
        others = [watch(channel, name) for name in NAMES]
        assert [next(other).status for other in others] == [SERVING, SERVING]
        stopping = threading.Thread(target=service.__exit__, args=(None, None, None))
        stopping.start()
        assert [next(other).status for other in others] == [NOT_SERVING, NOT_SERVING]
        stopping.join()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """One header, neither indexed nor compressed (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


WATCH_WITHOUT_WINDOW = b"".join(
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        frame(4, 0, 0, (4).to_bytes(2, "big") + bytes(4)),  # SETTINGS_INITIAL_WINDOW_SIZE = 0
        frame(
            1,
            4,
            1,
            literal(b":method", b"POST")
            + literal(b":scheme", b"http")
            + literal(b":path", b"/grpc.health.v1.Health/Watch")
            + literal(b":authority", b"localhost")
            + literal(b"content-type", b"application/grpc")
            + literal(b"te", b"trailers"),
        ),
        frame(0, 1, 1, bytes(5)),  # an empty request
    ]
)
