"""Rolling restarts of two servers under load: no safe call of our clients may fail, and nobody may see CANCELLED.

    python -m tests.soak.restarts [RESTARTS]      (100 of them, about seven minutes)

A server is told to stop, exits and is started again. The other follows when the first has accepted calls for two
seconds, as an orchestrator does (minReadySeconds in Kubernetes), so that clients have reconnected. They know both
addresses. Safe calls are those that a client may repeat. The plain client is grpcio without a service config.
Each server is told to stop while a call waits in the database (draining.py): under load alone, the retries of the
clients hide a server that does not drain, and their health checks hide missing retries.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import uvloop
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc
from taskwell_client import TaskwellError, connect, connect_async

from service.log import configure_log
from tests.faults.system import TIMEOUT, ServerProcess
from tests.postgres import fresh_database, running_postgres
from tests.soak.draining import stop_while_a_call_waits
from tests.waiting import eventually

AT_ONCE = 8
"""Calls in flight of each client."""
BETWEEN = 100
"""Calls of each client that succeed between two restarts."""
READY_SECONDS = 2.0
"""Between the start of a server and the end of the other."""
_PAUSE = 0.01
"""Between two calls of one worker (s)."""
_GO_CLIENT = Path(__file__).parents[2] / "clients" / "go"
_GO_TEST = "TestNoSafeCallFailsWhileServersRestart"

Call = Callable[..., Awaitable[Any]]
"""Calls a method of a client by its name."""


@dataclass(eq=False)
class Load:
    """The calls of one client: how many succeeded, and the statuses of the others."""

    name: str
    allowed: frozenset[str] = frozenset()
    """Statuses that calls may fail with."""
    succeeded: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    """Of the failures of the plain client."""
    over: bool = False

    async def run(self, calls: Callable[[Call], Awaitable[None]], call: Call) -> None:
        """Make these calls again and again until the load is over."""

        async def counted(*arguments: Any, **fields: Any) -> Any:
            result = await call(*arguments, **fields)
            self.succeeded += 1
            await asyncio.sleep(_PAUSE)
            return result

        while not self.over:
            try:
                await calls(counted)
            except TaskwellError as error:
                self.failures[f"{error.code.name} {error.reason or error.message}"] += 1
            except grpc.aio.AioRpcError as error:
                self.failures[error.code().name] += 1
                self.messages[error.details() or ""] += 1
                await asyncio.sleep(_PAUSE)  # a plain client stays with a server that drains, which refuses at once

    def problems(self) -> list[str]:
        wrong = {status: calls for status, calls in self.failures.items() if status not in self.allowed}
        return [f"{self.name}: {calls} calls failed as {status}" for status, calls in wrong.items()]

    def __str__(self) -> str:
        failed = ", ".join(f"{calls} {status}" for status, calls in self.failures.most_common())
        return f"{self.name:<26} {self.succeeded:>9,} {self.failures.total():>7,}   {failed}"


async def safe_calls(call: Call) -> None:
    """Every method of our clients, as a call that may be repeated."""
    task = await call("create", "Buy milk")
    await call("get", task.id)
    await call("page", page_size=10)
    await call("update", task.id, title="Buy oat milk")
    await call("complete", task.id)
    await call("delete", task.id, allow_missing=True)


async def reads(call: Call) -> None:
    await call("ListTasks", tasks_pb2.ListTasksRequest(page_size=10))


async def put_load(stack: AsyncExitStack, addresses: Sequence[str]) -> list[Load]:
    """Start the load of the Python clients. It ends with the stack."""
    target = f"ipv4:{','.join(addresses)}"
    ours = await stack.enter_async_context(connect_async(target, user=f"user-{uuid4()}"))
    sync = stack.enter_context(connect(target, user=f"user-{uuid4()}"))
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(target))
    stub: Any = tasks_pb2_grpc.TaskServiceStub(channel)
    metadata = [("x-user-id", f"user-{uuid4()}")]

    async def by_asyncio(method: str, *arguments: Any, **fields: Any) -> Any:
        return await getattr(ours, method)(*arguments, **fields)

    async def by_thread(method: str, *arguments: Any, **fields: Any) -> Any:
        return await asyncio.to_thread(getattr(sync, method), *arguments, **fields)

    async def by_stub(method: str, request: Any) -> Any:
        return await getattr(stub, method)(request, metadata=metadata, timeout=TIMEOUT)

    plain = Load("grpcio", frozenset({"UNAVAILABLE"}))
    loads = {
        Load("taskwell-client, asyncio"): (safe_calls, by_asyncio),
        Load("taskwell-client, threads"): (safe_calls, by_thread),
        plain: (reads, by_stub),
    }
    tasks = [asyncio.create_task(load.run(*calls)) for load, calls in loads.items() for _ in range(AT_ONCE)]

    async def end() -> None:
        for load in loads:
            load.over = True
        await asyncio.gather(*tasks)

    stack.push_async_callback(end)
    return list(loads)


@contextmanager
def go_load(addresses: Sequence[str], folder: Path) -> Iterator[list[str]]:
    """Run the load of the Go client; after the block the list holds what it printed."""
    printed: list[str] = []
    if not shutil.which("go"):
        print("Go is not installed: its client was not tested")
        yield printed
        return
    program, over = folder / "go-load", folder / "over"
    build = ["go", "test", "-c", "-tags", "soak", "-o", str(program), "."]
    subprocess.run(build, cwd=_GO_CLIENT, env={**os.environ, "GOWORK": "off"}, check=True)
    environment = {"TASKWELL_TEST_ADDRESSES": ",".join(addresses), "TASKWELL_TEST_OVER": str(over)}
    load = subprocess.Popen(
        [str(program), "-test.run", _GO_TEST, "-test.v", "-test.timeout", "1h"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield printed
        over.touch()
        printed.append(load.communicate(timeout=TIMEOUT)[0])
    finally:
        load.kill()
        load.communicate()


async def restart(servers: Sequence[ServerProcess], restarts: int) -> list[Load]:
    """Restart the servers in turn under the load of the Python clients."""
    addresses = [server.address for server in servers]
    async with AsyncExitStack() as stack:
        loads = await put_load(stack, addresses)
        for number in range(restarts):
            await asyncio.sleep(READY_SECONDS)
            await _successes(loads)
            await asyncio.to_thread(_restart, servers[number % len(servers)], addresses)
        await _successes(loads)
    return loads


def _restart(server: ServerProcess, addresses: Sequence[str]) -> None:
    stop_while_a_call_waits(server, addresses, server.database_url)
    status = server.wait()
    assert status == 0, f"the server exited with status {status}"
    server.kill()
    server.start()


async def _successes(loads: Sequence[Load]) -> None:
    """Wait until some more calls of every client have succeeded."""
    wanted = {load.name: load.succeeded + BETWEEN for load in loads}
    await eventually(lambda: all(load.succeeded >= wanted[load.name] for load in loads))


def restarted(url: str, restarts: int, *, with_go: bool) -> tuple[list[Load], str]:
    """Restart two servers on this PostgreSQL database. Returns the loads, and what the Go client printed."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="taskwell-restarts-")))
        servers = [ServerProcess(folder, url) for _ in range(2)]
        for server in servers:
            running.callback(server.kill)
            server.start()
        printed: list[str] = []
        with ExitStack() as load:
            if with_go:
                printed = load.enter_context(go_load([server.address for server in servers], folder))
            loads = uvloop.run(restart(servers, restarts))
    return loads, "".join(printed)


def main() -> None:
    configure_log("error", "auto")
    restarts = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with running_postgres() as postgres, fresh_database(postgres) as url:
        loads, go = restarted(url, restarts, with_go=True)
    print(f"{restarts} restarts\n{'client':<26} {'succeeded':>9} {'failed':>7}")
    for load in loads:
        print(load)
    print(go)
    problems = [problem for load in loads for problem in load.problems()]
    if go and f"--- PASS: {_GO_TEST}" not in go:
        problems.append("calls of the Go client failed")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
