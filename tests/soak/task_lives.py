"""Load for the soak: tasks that are created, read, listed, updated, completed and deleted, over gRPC or REST."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import grpc
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from tests.methods import METHODS, as_http, response_type
from tests.rest.client import CODES

CALLS_PER_LIFE = 7
"""One call of each method, and one for a task that no longer exists."""
NEW_CONNECTIONS = 50
"""Every so many tasks, the calls use connections of their own."""
_EXPECTED = {f"{method} OK" for method in METHODS} | {"GetTask NOT_FOUND"}
_USERS = [f"user-{number}" for number in range(200)]
MAX_IN_FLIGHT = 64
_TIMEOUT = 30.0  # s; generous: no call should hang


class Transport(Protocol):
    """A way to call the methods. `call` returns the response, or the status code of an error."""

    name: str

    async def call(self, user: str, method: str, request: Message) -> Any: ...
    async def close(self) -> None: ...


class Grpc:
    """Calls over one gRPC channel."""

    name = "gRPC"

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._stub: Any = tasks_pb2_grpc.TaskServiceStub(self._channel)

    async def call(self, user: str, method: str, request: Message) -> Any:
        try:
            return await getattr(self._stub, method)(request, metadata=[("x-user-id", user)], timeout=_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            return error.code()

    async def close(self) -> None:
        await self._channel.close()


class Rest:
    """Calls over kept HTTP/1.1 connections."""

    name = "REST"

    def __init__(self, address: str) -> None:
        self._address = address
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call(self, user: str, method: str, request: Message) -> Any:
        verb, path, query, body = as_http(method, request)
        target = path + ("?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else "")
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{verb} {target} HTTP/1.1\r\nhost: {self._address}\r\nx-user-id: {user}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        status, answer = await asyncio.wait_for(self._send(head.encode() + content), _TIMEOUT)
        if status != 200:
            return CODES[json.loads(answer)["code"]]
        return json_format.Parse(answer, response_type(method)())

    async def _send(self, request: bytes) -> tuple[int, bytes]:
        host, _, port = self._address.rpartition(":")
        kept = self._idle.pop() if self._idle else None
        reader, writer = kept or await asyncio.open_connection(host, int(port))
        writer.write(request)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        answer = await reader.readexactly(int(headers.get("content-length", 0)))
        self._idle.append((reader, writer))
        return int(lines[0].split()[1]), answer

    async def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


class Load:
    """Runs lives of tasks against one server, and counts the outcomes of their calls."""

    def __init__(self, grpc_address: str, rest_address: str) -> None:
        self._transports: Sequence[Callable[[], Transport]] = (lambda: Grpc(grpc_address), lambda: Rest(rest_address))
        self._kept: list[Transport] = []
        self._random = random.Random(1)
        self._lives = 0
        self.outcomes: Counter[str] = Counter()

    async def run(self, rate: float, until: float) -> None:
        """Start calls at this rate (calls/s), at equal intervals, whatever the server does."""
        running: set[asyncio.Task[None]] = set()
        begin = time.monotonic()
        for number in range(int((until - begin) * rate / CALLS_PER_LIFE)):
            await asyncio.sleep(begin + number * CALLS_PER_LIFE / rate - time.monotonic())
            if len(running) >= MAX_IN_FLIGHT:
                self.outcomes["the server is too slow"] += 1
                continue
            task = asyncio.create_task(self._live())
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def run_at_once(self, number: int, until: float) -> int:
        """Keep so many tasks in progress, and return the number of calls."""
        before = self.outcomes.total()

        async def work() -> None:
            while time.monotonic() < until:
                await self._live()

        await asyncio.gather(*(work() for _ in range(number)))
        return self.outcomes.total() - before

    def failures(self) -> list[str]:
        """The outcomes other than those that every life has."""
        expected = {f"{each} {call}" for each in ("gRPC", "REST") for call in _EXPECTED}
        return [f"{calls} calls: {outcome}" for outcome, calls in self.outcomes.items() if outcome not in expected]

    async def tasks_left(self) -> int:
        """The number of tasks that exist (up to 50 for each user)."""
        transport = self._transport(0)
        pages = [await transport.call(user, "ListTasks", tasks_pb2.ListTasksRequest()) for user in _USERS]
        return sum(len(page.tasks) for page in pages)

    async def close(self) -> None:
        for each in self._kept:
            await each.close()

    def _transport(self, number: int) -> Transport:
        if not self._kept:
            self._kept = [make() for make in self._transports]
        return self._kept[number % len(self._kept)]

    async def _live(self) -> None:
        self._lives += 1
        number = self._lives
        if number % NEW_CONNECTIONS in (0, 1):  # one over gRPC, one over REST
            transport = self._transports[number % len(self._transports)]()
            await self._calls(transport)
            await transport.close()
        else:
            await self._calls(self._transport(number))

    async def _calls(self, transport: Transport) -> None:
        user = self._random.choice(_USERS)
        draft = tasks_pb2.Task(title="Buy milk", description="x" * self._random.randrange(500))
        task = await self._call(transport, user, "CreateTask", tasks_pb2.CreateTaskRequest(task=draft))
        if not isinstance(task, tasks_pb2.Task):
            return
        changed = tasks_pb2.Task(id=task.id, title="Buy oat milk", etag=task.etag)
        mask = FieldMask(paths=["title"])
        for method, request in (
            ("GetTask", tasks_pb2.GetTaskRequest(id=task.id)),
            ("ListTasks", tasks_pb2.ListTasksRequest(page_size=20)),
            ("UpdateTask", tasks_pb2.UpdateTaskRequest(task=changed, update_mask=mask)),
            ("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task.id)),
            ("DeleteTask", tasks_pb2.DeleteTaskRequest(id=task.id)),
            ("GetTask", tasks_pb2.GetTaskRequest(id=task.id)),
        ):
            await self._call(transport, user, method, request)

    async def _call(self, transport: Transport, user: str, method: str, request: Message) -> Any:
        try:
            result = await transport.call(user, method, request)
        except (OSError, EOFError, TimeoutError) as error:
            result = f"{type(error).__name__}: {error}"
        outcome = "OK" if isinstance(result, Message) else getattr(result, "name", result)
        self.outcomes[f"{transport.name} {method} {outcome}"] += 1
        return result
