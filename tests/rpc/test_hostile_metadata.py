"""Metadata that no gRPC library sends: HTTP/2 by hand (RFC 9113), every header a literal (RFC 7541, 6.2.2).

What gRPC itself refuses never reaches the service; what does must name nobody. Either way nothing is done, and the
server goes on serving.
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from sqlalchemy import create_engine, func, select
from taskwell.v1 import tasks_pb2

from service.db.tables import tasks, users
from tests.running import Api, running_service, settings_for

Headers = Sequence[tuple[bytes, bytes]]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MOST_IN_A_FRAME = 16_384

REQUEST: Headers = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/taskwell.v1.TaskService/CreateTask"),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
)
MESSAGE = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="Buy milk")).SerializeToString()


def integer(value: int, prefix_bits: int) -> bytes:
    """A number as HPACK has it (RFC 7541, 5.1)."""
    most = 2**prefix_bits - 1
    if value < most:
        return bytes([value])
    rest, encoded = value - most, bytes([most])
    while rest >= 128:
        encoded, rest = encoded + bytes([rest % 128 | 128]), rest // 128
    return encoded + bytes([rest])


def literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + integer(len(name), 7) + name + integer(len(value), 7) + value


def frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def request(metadata: Headers) -> bytes:
    """A CreateTask with this metadata, as the frames of stream 1."""
    block = b"".join(literal(*header) for header in (*REQUEST, *metadata))
    pieces = [block[at : at + MOST_IN_A_FRAME] for at in range(0, len(block), MOST_IN_A_FRAME)]
    ends = [0] * (len(pieces) - 1) + [END_HEADERS]
    kinds = [HEADERS] + [CONTINUATION] * (len(pieces) - 1)
    headers = b"".join(frame(kind, end, piece) for kind, end, piece in zip(kinds, ends, pieces, strict=True))
    return headers + frame(DATA, END_STREAM, b"\0" + len(MESSAGE).to_bytes(4, "big") + MESSAGE)


def frames(connection: socket.socket) -> Iterator[tuple[int, int, int]]:
    """The kind, the flags and the stream of each frame, until the server closes the connection."""
    with connection.makefile("rb") as stream, suppress(ConnectionResetError):
        while header := stream.read(9):
            stream.read(int.from_bytes(header[:3], "big"))
            yield header[3], header[4], int.from_bytes(header[5:], "big")


def send(address: str, metadata: Headers) -> None:
    """Make the call and wait for its end, however it comes."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, b"", stream=0))
        received = frames(connection)
        next(kind for kind, _, _ in received if kind == SETTINGS)
        # The limit to metadata holds from when the client has acknowledged the settings that say it.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(frame(SETTINGS, ACK, b"", stream=0) + request(metadata))
        for kind, flags, stream in received:
            if kind in {RST_STREAM, GOAWAY} or (stream == 1 and flags & END_STREAM):
                return


CONTROLS = [bytes([code]) for code in (*range(32), 127)]
NO_ASCII = [b"\x80", b"\xff", "é".encode(), "\u202e".encode(), "😀".encode(), b"\xc0\x80", b"\xed\xa0\x80"]
USER = b"x-user-id"
HOSTILE: dict[str, list[Headers]] = {
    "control characters": [[(USER, b"al" + sign + b"ice")] for sign in CONTROLS],
    "control characters around": [
        [(USER, value)] for sign in CONTROLS for value in (sign + b"alice", b"alice" + sign) if sign not in b"\t"
    ],
    "what is not ASCII": [[(USER, b"alice" + sign)] for sign in NO_ASCII],
    "twice": [[(USER, b"alice"), (USER, b"alice")], [(USER, b"alice"), (USER, b"bob")], [(USER, b""), (USER, b"bob")]],
    "many times": [[(USER, b"alice")] * 100],
    "two in one": [[(USER, b"alice, bob")], [(USER, b"alice;\0bob")]],
    "other keys": [[(b"X-User-Id", b"alice")], [(b"X-USER-ID", b"alice")], [(b"x-user-id ", b"alice")]],
    "strange keys": [[(key, b"alice")] for key in (b"", b"x-user-id\0", b"x-user-id:", b"x\x80user", b":x-user-id")],
    "binary": [[(b"x-user-id-bin", b"YWxpY2U=")], [(b"x-user-id-bin", b"!!!")], [(b"x-user-id-bin", b"\0\xff")]],
    "too long a name": [[(USER, b"x" * length)] for length in (256, 4096, 15_000)],
    "oversized": [[(USER, b"alice"), (b"x-other", b"x" * length)] for length in (16_384, 100_000, 2_000_000)],
    "too many": [[(USER, b"alice"), *((b"x-%d" % number, b"") for number in range(10_000))]],
    "a long key": [[(USER, b"alice"), (b"x" * 100_000, b"")]],
    "tokens": [[(b"authorization", b"Bearer " + value)] for value in (b"", b"\0", b"a.b.c", b"x" * 15_000)],
}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'taskwell.db'}"


@pytest.fixture
def address(url: str) -> Iterator[str]:
    with running_service(settings_for(url)) as address:
        yield address


def stored(url: str) -> tuple[int, int]:
    """The number of users and of tasks."""
    with create_engine(url).connect() as connection:
        counts = [connection.scalar(select(func.count()).select_from(table)) or 0 for table in (users, tasks)]
    return counts[0], counts[1]


@pytest.mark.parametrize("metadata", HOSTILE.values(), ids=HOSTILE)
def test_metadata_that_is_not_as_it_should_be_names_nobody(url: str, address: str, metadata: list[Headers]) -> None:
    for each in metadata:
        send(address, each)
    assert stored(url) == (0, 0)
    with grpc.insecure_channel(address) as channel:
        Api(channel, "alice").create()
    assert stored(url) == (1, 1)


def test_this_client_can_make_calls(url: str, address: str) -> None:
    send(address, [(b"x-other", b"\x80\xff" * 100), (USER, b"alice")])
    assert stored(url) == (1, 1)
