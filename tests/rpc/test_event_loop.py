"""The costliest requests of each method: none of them may hold the event loop for more than 50 ms."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from taskwell.v1 import tasks_pb2

from service.server.app import Service
from tests.methods import SERVICE
from tests.running import DEADLINE, settings_for

MOST = 0.05
"""Longest time that one request may hold the loop (s of CPU)."""
ID = "01890000-0000-7000-8000-000000000000"
SIZE = 65_000
SECRET = "0123456789abcdef0123456789abcdef"

TEXTS = {
    "combining": "e" + "\u0301" * (SIZE // 2 - 10),
    "ligatures": "\ufdfa" * (SIZE // 3 - 10),  # 18 characters each, if it is normalized
    "capitals": "\u0130" * (SIZE // 2 - 10),  # two characters each in lower case
    "emoji": "\U0001f468\u200d" * (SIZE // 7 - 10),
    "spaces": " " * (SIZE - 100),
    "words": "a " * (SIZE // 2 - 100),
    "quotes": "'\"\\" * (SIZE // 3 - 100),
    "digits": "9" * (SIZE - 100),
    "underscores": "_a" * (SIZE // 2 - 100),
}
UNKNOWN_FIELDS = b"\xf8\x07\x01" * (SIZE // 3)  # field 127
NESTED = b"\x0b" * 90 + b"\x0c" * 90  # groups
PATHS = {
    "known": ["title"] * (SIZE // 7 - 10),
    "empty": [""] * (SIZE // 2 - 10),
    "camelCase": ["createTime.fooBar"] * (SIZE // 19 - 10),
    "distinct": [f"{number:x}" for number in range(SIZE // 6 - 10)],
    "capitals": ["A" * (SIZE - 100)],
    "dots": ["create_time." * (SIZE // 12 - 10)],
}


def requests() -> Iterator[tuple[str, str, bytes]]:
    """A name, a method, and the message."""
    for name, text in TEXTS.items():
        for method in ("GetTask", "DeleteTask", "CompleteTask"):
            yield f"id of {name}", method, request(method, id=text)
        yield f"etag of {name}", "DeleteTask", request("DeleteTask", id=ID, etag=text)
        yield f"etag of {name}", "CompleteTask", request("CompleteTask", id=ID, etag=text)
        yield f"page token of {name}", "ListTasks", request("ListTasks", page_token=text)
        yield f"order of {name}", "ListTasks", request("ListTasks", order_by=text)
        yield f"request id of {name}", "CreateTask", request("CreateTask", task={"title": "t"}, request_id=text)
        for field in ("title", "description"):
            yield f"{field} of {name}", "CreateTask", request("CreateTask", task={"title": "t"} | {field: text})
            yield f"{field} of {name}", "UpdateTask", request("UpdateTask", task={"id": ID, field: text})
        longest = {"title": text[:255].strip() or "t", "description": text[:5000]}
        yield f"longest task of {name}", "CreateTask", request("CreateTask", task=longest)
        yield f"longest task of {name}", "UpdateTask", request("UpdateTask", task={"id": ID, **longest})
        yield f"etag of {name}", "UpdateTask", request("UpdateTask", task={"id": ID, "title": "t", "etag": text})
    for name, paths in PATHS.items():
        mask = FieldMask(paths=paths)
        yield f"mask of {name}", "UpdateTask", request("UpdateTask", task={"id": ID}, update_mask=mask)
    for method in SERVICE.methods_by_name:
        yield "unknown fields", method, UNKNOWN_FIELDS
        yield "nested groups", method, NESTED * (SIZE // len(NESTED))
        yield "invalid UTF-8", method, b"\x0a\xe8\xfb\x03" + b"\xff" * SIZE
        yield "cut off", method, b"\x0a\xff\xff\xff\x7f" + b"a" * SIZE
    for size in (20, 1000):
        yield f"page of {size}", "ListTasks", request("ListTasks", page_size=size)


def request(method: str, **fields: Any) -> bytes:
    message: bytes = getattr(tasks_pb2, f"{method}Request")(**fields).SerializeToString()
    assert len(message) <= 2**16
    return message


METADATA: dict[str, Sequence[tuple[str, str]]] = {
    "many pairs": [(f"x-{number}", "") for number in range(250)],
    "one key": [("x-more", "v")] * 250,
    "a long trace": [("traceparent", "0" * 8000)],
    "a long user": [("x-user-id", "u" * 8000)],
    "dots": [("authorization", "Bearer " + "." * 8000)],
    "spaces": [("authorization", "Bearer" + " " * 8000 + "x")],
    "a token": [("authorization", f"Bearer eyJhbGciOiJIUzI1NiJ9.{'W1tb' * 1900}.AAAA")],
    "a nested token": [("authorization", f"Bearer {'W1tb' * 1900}.e30.AAAA")],
}


class Heartbeat:
    """Runs in every iteration of the loop, and notes the CPU time of the longest."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def beat(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest = max(self.longest, now - last)
            last = now


@contextmanager
def no_collection() -> Iterator[None]:
    """Without the garbage collector, which in a test scans the objects of all tests."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@asynccontextmanager
async def serving(url: str, **more: Any) -> AsyncIterator[grpc.Channel]:
    """A service in the loop of the test, and a channel for other threads."""
    service = Service(settings_for(url, **more))
    address = await service.start()
    try:
        with grpc.insecure_channel(str(address)) as channel:
            yield channel
    finally:
        await service.drain(grace=5)
        await service.close()


async def held(call: Callable[[], object]) -> float:
    """The longest time for which the loop is held by a call that another thread makes: the least of three calls."""
    least = float("inf")
    for _ in range(3):
        heartbeat = Heartbeat()
        beating = asyncio.create_task(heartbeat.beat())
        await asyncio.to_thread(call)
        beating.cancel()
        least = min(least, heartbeat.longest)
        if least < MOST / 2:
            break
    return least


def calling(channel: grpc.Channel, method: str, message: bytes, metadata: Any) -> Callable[[], object]:
    stub: Any = channel.unary_unary(f"/taskwell.v1.TaskService/{method}")
    return lambda: stub.future(message, metadata=metadata, timeout=DEADLINE).exception()


async def test_no_request_holds_the_event_loop(database_url: str) -> None:
    user = [("x-user-id", "heartbeat")]
    with no_collection():
        async with serving(database_url) as channel:
            task = request("CreateTask", task={"title": "t", "description": "\U0001f468" * 2500})
            await asyncio.to_thread(lambda: [calling(channel, "CreateTask", task, user)() for _ in range(330)])
            times = {
                f"{method}: {name}": await held(calling(channel, method, message, user))
                for name, method, message in requests()
            }
    slow = {name: round(seconds, 3) for name, seconds in times.items() if seconds > MOST}
    assert not slow, f"the loop was held by {slow} s"


@pytest.mark.parametrize("mode", ["metadata", "jwt"])
async def test_no_metadata_holds_the_event_loop(sqlite_url: str, mode: str) -> None:
    jwt = {"auth": "jwt", "jwt_secret": SECRET, "jwt_issuer": "issuer", "jwt_audience": "tasks"}
    with no_collection():
        async with serving(sqlite_url, **(jwt if mode == "jwt" else {})) as channel:
            times = {
                name: await held(calling(channel, "GetTask", request("GetTask", id=ID), metadata))
                for name, metadata in METADATA.items()
            }
    slow = {name: round(seconds, 3) for name, seconds in times.items() if seconds > MOST}
    assert not slow, f"the loop was held by {slow} s"
