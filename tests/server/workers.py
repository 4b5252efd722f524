"""Runs `taskwell serve` with several workers."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
from taskwell.v1 import tasks_pb2

from tests.running import Api
from tests.server.starting import Server, serving
from tests.waiting import until


class Workers:
    """A running `taskwell serve` with several workers, and its log."""

    def __init__(self, server: Server, log: Path) -> None:
        self.server = server
        self.address = server.address
        self._log = log

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of an event so far."""
        lines = (json.loads(line) for line in self._log.read_text().splitlines(keepends=True) if line.endswith("\n"))
        return [line for line in lines if line["event"] == event]

    @property
    def pids(self) -> dict[int, int]:
        """Process id of each worker, by its number."""
        return {line["worker"]: line["pid"] for line in self.lines("worker ready")}

    @contextmanager
    def api(self, user: str | None = None) -> Iterator[Api]:
        """A client with a connection of its own."""
        with grpc.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            yield Api(channel, user)

    def serving(self) -> set[int]:
        """Return the numbers of the workers that have served calls; 0 stands for a server without workers."""
        return {line.get("worker", 0) for line in self.lines("rpc")}


@contextmanager
def workers(
    folder: Path, *arguments: str, count: int = 2, ready: int | None = None, **environment: str
) -> Iterator[Workers]:
    """A server with as many workers, all of which become ready unless another number does."""
    path = folder / "log"
    options = ["--workers", str(count), "--log-level", "debug", "--log-format", "json", *arguments]
    with path.open("w") as log, serving(folder, options, log=log, **environment) as server:
        running = Workers(server, path)
        # The log and the announcement are written by two threads.
        until(lambda: count == 1 or len(running.pids) == (ready or count))
        yield running


def call_until(condition: Callable[[], bool], running: Workers) -> None:
    """Call over new connections until the condition holds; each call must succeed."""

    def called() -> bool:
        with running.api() as api:
            api.list()
        return condition()

    until(called)


@contextmanager
def held_call(running: Workers, folder: Path) -> Iterator[tuple[Any, Callable[[], object]]]:
    """Start a call that blocks in the database; yield it and the function that releases it."""
    with running.api() as api, closing(sqlite3.connect(folder / "taskwell.db", isolation_level=None)) as other:
        task = api.create()
        other.execute("BEGIN IMMEDIATE")
        held = api.start("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task.id))
        api.list()  # answered after `held` has arrived: they share a connection
        yield held, lambda: other.execute("ROLLBACK")
