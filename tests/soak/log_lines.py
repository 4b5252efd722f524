"""Log lines of two workers under failure, read through one pipe: each must be one JSON object.

    python -m tests.soak.log_lines [LINES]      (100,000 by default)

Meanwhile the database file goes away and comes back, a worker is killed, signals ask for stacks, connections of gRPC
and of the metrics get garbage, and the reader of the pipe pauses, so that lines are dropped.
"""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from tests.server.starting import Server, serving

_LIMIT = 600.0  # s; only for what never ends
_CALLERS = 8
_WORKERS = 2
_GARBAGE = b"\x16\x03\x01\x00\xff GET / HTTP/9\r\n\xe2\x80\xa8\r\n\r\n"


class Lines:
    """Reads lines from a pipe until `wanted` have been read, or until its end."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.bad: list[bytes] = []
        self.count = 0
        self.events: Counter[str] = Counter()
        self.pids: set[int] = set()
        self.paused_until = 0.0

    def read(self, pipe: Any) -> None:
        for line in pipe:
            self._take(line)
            while time.monotonic() < self.paused_until:
                time.sleep(0.01)

    @property
    def are_enough(self) -> bool:
        return self.count >= self.wanted

    def _take(self, raw: bytes) -> None:
        self.count += 1
        try:
            line = json.loads(raw)
            self.events[line["event"]] += 1
        except (ValueError, TypeError, KeyError):
            self.bad.append(raw)
            return
        if line["event"] == "worker ready":
            self.pids.add(line["pid"])


async def _call(address: str, lines: Lines) -> None:
    """Make calls that fail in several ways, over new connections now and then, so that both workers get some."""
    while not lines.are_enough:
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            requests = _requests(tasks_pb2_grpc.TaskServiceStub(channel))
            for _ in range(20):
                await asyncio.gather(*(_ended(request) for request in requests * 4))


def _requests(stub: Any) -> list[Callable[[], Any]]:
    return [
        lambda: stub.ListTasks(tasks_pb2.ListTasksRequest(), metadata=[("x-user-id", "alice")], timeout=5),
        lambda: stub.GetTask(tasks_pb2.GetTaskRequest(id="x" * 3000), metadata=[("x-user-id", "bob")]),
        lambda: stub.CreateTask(tasks_pb2.CreateTaskRequest(), metadata=[("x-request-id", '"}{' * 40)]),
        lambda: stub.ListTasks(tasks_pb2.ListTasksRequest(), metadata=[("x-user-id", "eve")], timeout=0.001),
    ]


async def _ended(request: Callable[[], Any]) -> None:
    with suppress(grpc.RpcError):
        await request()


async def _break(folder: Path, server: Server, metrics: str, lines: Lines) -> None:
    """Cause one fault after the other. The worker that was killed has been replaced at the end."""
    database, away = folder / "taskwell.db", folder / "away"
    killed = False
    # A worker that is killed while the server ends would be the server's failure too.
    while not lines.are_enough or (killed and len(lines.pids) < _WORKERS + 1):
        database.rename(away)
        for address in (server.address, metrics):
            _send_garbage(address)
        await asyncio.sleep(0.2)
        away.rename(database)
        server.process.send_signal(signal.SIGUSR1)
        lines.paused_until = time.monotonic() + 0.2
        await asyncio.sleep(0.3)
        if not killed and lines.count > lines.wanted // 2 and len(lines.pids) == _WORKERS:
            killed = True
            with suppress(ProcessLookupError):
                os.kill(min(lines.pids), signal.SIGKILL)


def _send_garbage(address: str) -> None:
    host, _, port = address.rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=1) as connection:
        connection.sendall(_GARBAGE)


def read_lines(wanted: int) -> Lines:
    """Run two workers under failure until this many lines have been read, and stop them."""
    lines = Lines(wanted)
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory() as folder, os.fdopen(reading, "rb") as pipe:
        reader = threading.Thread(target=lines.read, args=(pipe,), daemon=True)
        reader.start()
        options = ["--workers", str(_WORKERS), "--log-level", "debug", "--metrics-address", "127.0.0.1:0"]
        try:
            with os.fdopen(writing, "w") as log, serving(Path(folder), options, log=log) as server:
                asyncio.run(_until_enough(Path(folder), server, lines))
                assert server.end() == 0
        finally:
            reader.join(30)
    return lines


async def _until_enough(folder: Path, server: Server, lines: Lines) -> None:
    async with asyncio.timeout(_LIMIT):
        metrics = re.sub(r".* ", "", server.metrics_address)
        await asyncio.gather(
            _break(folder, server, metrics, lines), *(_call(server.address, lines) for _ in range(_CALLERS))
        )


def main() -> int:
    lines = read_lines(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
    for bad in lines.bad[:10]:
        print(bad)
    print(f"{lines.count} lines, {len(lines.bad)} of them no JSON object")
    print(", ".join(f"{event}: {number}" for event, number in lines.events.most_common()))
    return 1 if lines.bad else 0


if __name__ == "__main__":
    sys.exit(main())
