"""Creates whose responses are lost on the way: every task must exist once, and no call may fail.

    python -m tests.soak.lost_answers [CREATES]      (10,000 of them by each client, on SQLite and on PostgreSQL)

A proxy reads along. Of every twentieth create it lets the request through and cuts the connection when the service,
which answers only what is committed, begins to answer. The client cannot know whether the task was made.
"""

import asyncio
import re
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import BinaryIO

from psycopg.conninfo import make_conninfo
from taskwell_client import connect, connect_async

from service.log import configure_log
from tests.messages import Link
from tests.proxy import Proxy
from tests.running import new_user, running_service, settings_for
from tests.soak.isolation import urls

EVERY = 20
AT_ONCE = 8
"""Clients, each with a connection of its own, so that a closed connection loses one response."""
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]

# HTTP/2 (RFC 9113): what a client says first; a frame's nine bytes, of which three are its length and one its type.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = 9
_DATA, _HEADERS = 0, 1
# A gRPC message's prefix. A health check, which each client opens beside its calls, is empty or names this service.
_PREFIX = 5
_WATCHED = b"taskwell.v1.TaskService"
_REQUEST_ID = re.compile(rb"\x12\x24([0-9a-f-]{36})")  # field 2, 36 bytes


class Losing(Proxy):
    """Loses the response to every n-th create, but never twice for the same one."""

    def __init__(self, address: str, every: int = EVERY) -> None:
        self._every = every
        self._known: set[bytes] = set()
        self._doomed: set[socket.socket] = set()
        self.requests = 0
        self.lost = 0
        host, _, port = address.rpartition(":")
        super().__init__(make_conninfo(host=host, port=port), is_postgres=False)

    def _forward(self, link: Link) -> None:
        sink, connection, answers = link.sink, link.client, link.from_server
        with suppress(OSError), link.source.makefile("rb") as stream:
            if not answers:
                sink.sendall(stream.read(len(_PREFACE)))
            for kind, frame in _frames(stream):
                if answers and kind == _HEADERS and connection in self._doomed:
                    self.lost += 1
                    break
                if not answers and kind == _DATA and len(frame) > _HEAD + _PREFIX and _WATCHED not in frame:
                    self._read_along(connection, frame)
                sink.sendall(frame)
        for end in (link.source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _read_along(self, connection: socket.socket, frame: bytes) -> None:
        request_id = _REQUEST_ID.search(frame)
        with self._lock:
            self.requests += 1
            if request_id is None:
                is_new, number = True, self.requests
            else:
                is_new = request_id[1] not in self._known
                self._known.add(request_id[1])
                number = len(self._known)
            if is_new and number % self._every == 0:
                self._doomed.add(connection)


def _frames(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Complete frames with their types."""
    while len(head := stream.read(_HEAD)) == _HEAD:
        yield head[3], head + stream.read(int.from_bytes(head[:3]))


@contextmanager
def losing(address: str) -> Iterator[Losing]:
    proxy = Losing(address)
    try:
        yield proxy
    finally:
        proxy.close()


def by_threads(target: str, user: str, titles: Sequence[str]) -> None:
    """Create tasks with these titles with sync clients. Raises the first error."""

    def work(mine: Sequence[str]) -> None:
        with connect(target, user=user, options=_OWN_CONNECTION) as client:
            for title in mine:
                client.create(title)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, [titles[first::AT_ONCE] for first in range(AT_ONCE)]))


def by_asyncio(target: str, user: str, titles: Sequence[str]) -> None:
    """The same with asyncio clients."""

    async def work(mine: Sequence[str]) -> None:
        async with connect_async(target, user=user, options=_OWN_CONNECTION) as client:
            for title in mine:
                await client.create(title)

    async def all_at_once() -> None:
        await asyncio.gather(*(work(titles[first::AT_ONCE]) for first in range(AT_ONCE)))

    asyncio.run(all_at_once())


CLIENTS: dict[str, Callable[[str, str, Sequence[str]], None]] = {"sync": by_threads, "asyncio": by_asyncio}


def created(address: str, kind: str, creates: int) -> tuple[Losing, Counter[str]]:
    """Create tasks with a kind of client. Returns the proxy, and the number of tasks with each title."""
    user = new_user()
    with losing(address) as proxy:
        CLIENTS[kind](proxy.address, user, titles_of(creates))
    with connect(address, user=user) as client:
        return proxy, Counter(task.title for task in client.list(page_size=1000))


def titles_of(creates: int) -> list[str]:
    return [f"Task {number}" for number in range(creates)]


def main() -> None:
    configure_log("error", "auto")
    creates = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for name, url in urls():
        for kind in CLIENTS:
            with running_service(settings_for(url, migrate=True)) as address:
                proxy, tasks = created(address, kind, creates)
            told = f"{creates:,} creates, {proxy.lost:,} answers lost, {proxy.requests:,} requests, no error"
            print(f"{name}, {kind}: {told}, {tasks.total():,} tasks", flush=True)
            if tasks != Counter(titles_of(creates)) or proxy.lost < creates // EVERY:
                sys.exit(f"{name}, {kind}: these are not the tasks that were created")


if __name__ == "__main__":
    main()
