"""Calls that the service refuses because there are too many: both Python clients repeat them within the timeout."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from taskwell_client import ResourceExhausted, connect_async
from taskwell_client import connect as connect_sync

from tests.clients.clients import Connect
from tests.clients.scripted import Scripted, scripted_server

DELAY = 0.03  # s
CALLS: dict[str, Callable[[Any], Any]] = {
    "one": lambda client: client.delete("1"),  # which is not repeated for other failures
    "many": lambda client: client.delete_many(["1"]),
}


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted_server() as server:
        yield server


def refused_for(seconds: float) -> Callable[[grpc.ServicerContext], bytes]:
    """A refusal with this retry delay."""
    detail = AnyMessage()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=Duration(nanos=int(seconds % 1 * 10**9), seconds=int(seconds))))
    status = status_pb2.Status(code=StatusCode.RESOURCE_EXHAUSTED.value[0], message="Too many.", details=[detail])

    packed: bytes = status.SerializeToString()

    def refuse(context: grpc.ServicerContext) -> NoReturn:
        context.set_trailing_metadata((("grpc-status-details-bin", packed),))
        context.abort(StatusCode.RESOURCE_EXHAUSTED, status.message)

    return refuse


@pytest.mark.parametrize("number", CALLS)
def test_a_call_refused_for_overload_is_repeated_after_the_delay(
    connect: Connect, server: Scripted, number: str
) -> None:
    refusals = 3
    server.answers(*[refused_for(DELAY)] * refusals, b"")
    began = time.monotonic()
    CALLS[number](connect(server.address, user="alice", timeout=60))
    assert len(server.attempts) == refusals + 1
    assert time.monotonic() - began >= refusals * DELAY


@pytest.mark.parametrize("answer", [refused_for(3600), StatusCode.RESOURCE_EXHAUSTED], ids=["too late", "no delay"])
def test_a_refusal_is_raised_at_once_if_no_retry_can_help(connect: Connect, server: Scripted, answer: Any) -> None:
    server.answers(answer)
    with pytest.raises(ResourceExhausted):
        connect(server.address, user="alice", timeout=60).get("1")
    [outcome] = connect(server.address, user="alice", timeout=60).get_many(["1"])
    assert isinstance(outcome, ResourceExhausted)
    assert len(server.attempts) == 2


def test_a_call_that_is_always_refused_raises_the_refusal_at_its_timeout(connect: Connect, server: Scripted) -> None:
    server.answers(refused_for(0.001))
    with pytest.raises(ResourceExhausted) as caught:
        connect(server.address, user="alice", timeout=0.5).get("1")
    assert caught.value.retry_delay == 0.001
    assert 2 <= len(server.attempts) <= 20, "the pauses do not grow"


@pytest.mark.parametrize("channels", [1, 10])
async def test_no_call_fails_of_1_000_at_once_by_asyncio(address: str, channels: int) -> None:
    """On one connection they wait in the client; on ten the service refuses some, and the client repeats them."""
    async with connect_async(address, user="alice", timeout=60, channels=channels) as client:
        task = await client.create("Buy milk")
        assert await asyncio.gather(*(client.get(task.id) for _ in range(1000))) == [task] * 1000


def test_no_call_fails_of_200_threads_at_once(address: str) -> None:
    with connect_sync(address, user="alice", timeout=60) as client, ThreadPoolExecutor(200) as pool:
        task = client.create("Buy milk")
        assert list(pool.map(lambda _: client.get(task.id), range(400))) == [task] * 400
