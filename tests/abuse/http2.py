"""Hostile HTTP/2 clients, frame by frame: a client library would refuse to send these."""

import re
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import grpc

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM = ACK = 1
END_HEADERS = 4

GET_TASK = "/taskwell.v1.TaskService/GetTask"
LIST_TASKS = "/taskwell.v1.TaskService/ListTasks"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def settings(*, initial_window_size: int = 65_535) -> bytes:
    """A SETTINGS frame. The peer must not index fields, so that `status_of` can find them (RFC 9113, 6.5.2)."""
    header_table_size = (1, 0)
    return frame(SETTINGS, 0, 0, struct.pack(">HIHI", *header_table_size, 4, initial_window_size))


def status_of(trailers: bytes) -> grpc.StatusCode:
    """The gRPC status in a block of trailers."""
    found = re.search(rb"grpc-status[\x01\x02](\d+)", trailers)
    assert found, trailers
    return next(code for code in grpc.StatusCode if code.value[0] == int(found[1]))


def message(serialized: bytes) -> bytes:
    """A gRPC message as it stands in DATA frames: uncompressed, behind its length."""
    return b"\0" + struct.pack(">I", len(serialized)) + serialized


def request_fields(method: str, user: str) -> dict[str, str]:
    """The headers of a gRPC request."""
    return {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "x-user-id": user,
    }


def field_block(fields: Mapping[str, str]) -> bytes:
    """Headers as HPACK literals that are not indexed (RFC 7541, 6.2.2)."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields.items())


class Client:
    """A connection that sends what it is told and reads only when it is told. Streams are 1, 3, 5, …"""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._next_stream = 1

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def headers(self, method: str, user: str = "mallory", *, end_stream: bool = False) -> tuple[int, bytes]:
        """The number of a new stream, and the frame that opens it with a gRPC request's headers."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        block = field_block(request_fields(method, user))
        return stream, frame(HEADERS, END_HEADERS | (END_STREAM if end_stream else 0), stream, block)

    def call(self, method: str, request: bytes = b"", user: str = "mallory") -> int:
        """Send a whole request, and answer the number of its stream."""
        stream, opening = self.headers(method, user)
        self.send(opening + frame(DATA, END_STREAM, stream, message(request)))
        return stream

    def bomb(self, method: str, size: int) -> bytes:
        """Headers that unpack to `size` bytes: one long field in the dynamic table, then named again and again."""
        stream, opening = self.headers(method)
        long = b"\x40" + _string("bomb") + _string("a" * 4000)  # RFC 7541, 6.2.1
        again = b"\xbe" * max(0, size // 4036 - 1)  # index 62, the newest entry
        return opening[:4] + b"\0" + opening[5:] + frame(CONTINUATION, END_HEADERS, stream, long + again)

    def frames(self, timeout: float) -> Iterator[tuple[int, int, int, bytes]]:
        """The frames that come until the peer closes or nothing comes for `timeout` seconds."""
        self._connection.settimeout(timeout)
        buffer = b""
        while True:
            while len(buffer) >= 9 and len(buffer) >= 9 + (length := int.from_bytes(buffer[:3], "big")):
                yield buffer[3], buffer[4], int.from_bytes(buffer[5:9], "big") & 0x7FFFFFFF, buffer[9 : 9 + length]
                buffer = buffer[9 + length :]
            try:
                more = self._connection.recv(65536)
            except (TimeoutError, ConnectionError):
                return
            if not more:
                return
            buffer += more


def _string(text: str) -> bytes:
    """An HPACK string without a Huffman code (RFC 7541, 5.2)."""
    length, prefix = len(text), b""
    if length >= 127:
        length, prefix = length - 127, b"\x7f"
    while length >= 128:
        length, prefix = length // 128, prefix + bytes((length % 128 + 128,))
    return prefix + bytes((length,)) + text.encode()


@contextmanager
def connected(address: str, *, acknowledge: bool = True, initial_window_size: int = 65_535) -> Iterator[Client]:
    """A client behind its preface and SETTINGS, which acknowledges the server's or never does."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        client = Client(connection)
        client.send(
            PREFACE
            + settings(initial_window_size=initial_window_size)
            + (frame(SETTINGS, ACK, 0) if acknowledge else b"")
        )
        yield client
