"""An open-loop load generator that writes raw HTTP/2 frames: calls arrive by the clock, however slow the server is.

    python -m tests.abuse.load ADDRESS [--method CreateTask] [--rate 1000] [--connections 16] ...

A call that finds every stream of its connection in use waits in the client for at most --wait seconds and is then not
sent at all; its deadline counts from its arrival. Without --rate the load is a closed loop: each stream sends its
next call when the last ended. Prints one line of JSON. Frames are made from a template and read with one regular
expression per response, so that the generator costs a fraction of the CPU of the server.
"""

import argparse
import json
import re
import selectors
import socket
import struct
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from grpc_health.v1 import health_pb2
from taskwell.v1 import tasks_pb2

from tests.abuse.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    field_block,
    frame,
    message,
    request_fields,
    settings,
)

_STATUS = re.compile(rb"grpc-status[\x01\x02]([0-9]{1,2})")
_MAX_STREAMS = 3  # SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113, 6.5.2)
_WINDOW = 2**31 - 1
_RESOURCE_EXHAUSTED = "8"

REQUESTS = {
    "CreateTask": tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="Buy milk", description="Two litres")),
    "GetTask": tasks_pb2.GetTaskRequest(id="01890000-0000-7000-8000-000000000000"),  # NOT_FOUND is an answer too
    "ListTasks": tasks_pb2.ListTasksRequest(page_size=20),
    "Check": health_pb2.HealthCheckRequest(),
}


@dataclass
class Result:
    """Calls by their end, and how long they took (s)."""

    ends: Counter[str] = field(default_factory=Counter)
    answered: list[float] = field(default_factory=list)
    """From arrival to an answer within the deadline."""
    refused: list[float] = field(default_factory=list)
    """From sending to RESOURCE_EXHAUSTED."""


class Connection:
    """One connection: its streams in use, its queue, and the bytes in both directions."""

    def __init__(self, address: str, request: "Request", result: Result, max_streams: int | None) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        opening = settings(initial_window_size=_WINDOW) + frame(SETTINGS, ACK, 0)
        self.output = bytearray(PREFACE + opening + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW - 65_535)))
        self.is_open = True
        self.waiting: deque[float] = deque()  # times of arrival
        self.streams: dict[int, tuple[float, float]] = {}  # times of arrival and of sending
        self._statuses: dict[int, str] = {}
        self._input = b""
        self._next = 1
        self._request = request
        self._result = result
        self._own_limit = max_streams
        self._max_streams = max_streams or 100

    def send_waiting(self, now: float, wait: float) -> None:
        """Open streams for the calls that wait, as many as the server allows."""
        while self.waiting and self.is_open:
            if len(self.streams) >= self._max_streams:
                if now - self.waiting[0] < wait:
                    return
                self.waiting.popleft()
                self._result.ends["not sent"] += 1
                continue
            arrived = self.waiting.popleft()
            self.output += self._request.frames(self._next, now - arrived)
            self.streams[self._next] = arrived, now
            self._next += 2

    def write(self) -> None:
        if not self.output or not self.is_open:
            return
        try:
            sent = self.socket.send(self.output)
        except BlockingIOError:
            return
        except OSError:
            self.is_open = False
            return
        del self.output[:sent]

    def read(self, deadline: float) -> None:
        """Read what is there, and end the calls that it ends."""
        try:
            data = self.socket.recv(2**18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.is_open = False
            return
        data, start, size = self._input + data, 0, len(self._input) + len(data)
        now = time.monotonic()
        while size - start >= 9:
            end = start + 9 + int.from_bytes(data[start : start + 3], "big")
            if end > size:
                break
            kind = data[start + 3]
            if kind in {HEADERS, RST_STREAM}:
                stream = int.from_bytes(data[start + 5 : start + 9], "big")
                self._end(stream, kind, data[start + 4], data[start + 9 : end], now, deadline)
            elif kind not in {DATA, WINDOW_UPDATE}:
                self._control(kind, data[start + 4], data[start + 9 : end])
            start = end
        self._input = data[start:]

    def _control(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == PING and not flags & ACK:
            self.output += frame(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            self.is_open = False
        elif kind == SETTINGS and not self._own_limit:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _MAX_STREAMS:
                    self._max_streams = value

    def _end(self, stream: int, kind: int, flags: int, block: bytes, now: float, deadline: float) -> None:
        if kind == HEADERS and (found := _STATUS.search(block)):
            self._statuses[stream] = found[1].decode()
        if not (kind == RST_STREAM or flags & END_STREAM) or stream not in self.streams:
            return
        arrived, sent = self.streams.pop(stream)
        status = self._statuses.pop(stream, f"reset {int.from_bytes(block[:4], 'big')}")
        took = now - arrived
        if took > deadline:
            self._result.ends["late"] += 1
        else:
            self._result.ends[status] += 1
            if status in self._request.answers:
                self._result.answered.append(took)
        if status == _RESOURCE_EXHAUSTED:
            self._result.refused.append(now - sent)


class Request:
    """A call as frames; only the number of the stream differs."""

    def __init__(self, method: str, user: str, deadline: float) -> None:
        service = "grpc.health.v1.Health" if method == "Check" else "taskwell.v1.TaskService"
        self._deadline = deadline
        fields = request_fields(f"/{service}/{method}", user) | {"grpc-timeout": "0000000m"}
        block, body = field_block(fields), message(REQUESTS[method].SerializeToString())
        self._headers = frame(HEADERS, END_HEADERS, 0, block)
        self._data = frame(DATA, END_STREAM, 0, body)
        self.answers = {"0", "5"} if method == "GetTask" else {"0"}

    def frames(self, stream: int, age: float) -> bytes:
        """The call on this stream, with what is left of its deadline as its timeout."""
        number, left = stream.to_bytes(4, "big"), b"%07dm" % max(1, round((self._deadline - age) * 1000))
        return self._headers[:5] + number + self._headers[9:-8] + left + self._data[:5] + number + self._data[9:]


def run(arguments: argparse.Namespace) -> Result:
    """Offer the load for its time, and wait for what is on its way for at most a deadline."""
    result = Result()
    with selectors.DefaultSelector() as selector:
        connections = []
        for number in range(arguments.connections):
            request = Request(arguments.method, f"load-{arguments.seed}-{number % arguments.users}", arguments.deadline)
            connection = Connection(arguments.address, request, result, arguments.streams)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connections.append(connection)
        _offer(arguments, connections, selector)
        for connection in connections:
            result.ends["not answered"] += len(connection.streams)
            result.ends["connections closed"] += not connection.is_open
            connection.socket.close()
    return result


def _offer(arguments: argparse.Namespace, connections: list[Connection], selector: selectors.BaseSelector) -> None:
    arrivals = _Arrivals(arguments, connections)
    ends = time.monotonic() + arguments.seconds
    while (now := time.monotonic()) < ends or any(each.streams for each in connections):
        if now > ends + arguments.deadline:
            return
        if now < ends:
            arrivals.add(now)
        for connection in connections:
            connection.send_waiting(now, arguments.wait)
            connection.write()
        for key, _ in selector.select(0.002):
            key.data.read(arguments.deadline)
            if not key.data.is_open:
                selector.unregister(key.fileobj)


class _Arrivals:
    """The calls that are due: by the clock, or one for every free stream."""

    def __init__(self, arguments: argparse.Namespace, connections: list[Connection]) -> None:
        self._rate = arguments.rate
        self._streams = arguments.streams
        self._connections = connections
        self._started = time.monotonic()
        self._added = 0

    def add(self, now: float) -> None:
        if not self._rate:
            for connection in self._connections:
                connection.waiting.extend([now] * (self._streams - len(connection.streams) - len(connection.waiting)))
            return
        due = int((now - self._started) * self._rate)
        for number in range(self._added, due):
            self._connections[number % len(self._connections)].waiting.append(self._started + number / self._rate)
        self._added = due


def percentile(values: list[float], share: float) -> float | None:
    """The value below which this share of the values lies (s, to the ms); None without values."""
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 3) if values else None


def summary(result: Result, seconds: float) -> dict[str, Any]:
    return {
        "goodput": round(len(result.answered) / seconds),
        "answered_p50": percentile(result.answered, 0.5),
        "answered_p99": percentile(result.answered, 0.99),
        "refused": round(len(result.refused) / seconds),
        "refused_p99": percentile(result.refused, 0.99),
        "ends": dict(result.ends),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--method", choices=REQUESTS, default="CreateTask")
    parser.add_argument("--rate", type=float, default=0.0, help="calls per second; 0 for a closed loop")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--streams", type=int, default=None, help="per connection; by default as the server allows")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--deadline", type=float, default=5.0)
    parser.add_argument("--wait", type=float, default=0.0, help="longest wait for a free stream, in the client")
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--seed", default="0", help="part of the users' names")
    arguments = parser.parse_args()
    cpu = time.process_time()
    result = run(arguments)
    print(json.dumps(summary(result, arguments.seconds) | {"cpu": round(time.process_time() - cpu, 2)}))


if __name__ == "__main__":
    main()
