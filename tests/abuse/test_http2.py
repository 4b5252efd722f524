"""Hostile HTTP/2 clients, and an honest one beside them."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from service.rpc import call_limits
from tests.abuse.http2 import (
    DATA,
    END_STREAM,
    GET_TASK,
    GOAWAY,
    HEADERS,
    LIST_TASKS,
    RST_STREAM,
    Client,
    connected,
    frame,
    status_of,
)
from tests.running import DEADLINE, Api, new_user, running_service, settings_for

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"


@pytest.fixture
def address(sqlite_url: str) -> Iterator[str]:
    with running_service(settings_for(sqlite_url)) as address:
        yield address


@contextmanager
def honest(address: str) -> Iterator[Api]:
    with grpc.insecure_channel(address) as channel:
        yield Api(channel)


def ends(client: Client, count: int) -> Counter[str]:
    """The statuses of `count` streams, and RST_STREAM for those that were reset."""
    found: Counter[str] = Counter()
    for kind, flags, _, payload in client.frames(DEADLINE):
        if kind == RST_STREAM and any(payload):
            found["RST_STREAM"] += 1
        elif kind == HEADERS and flags & END_STREAM:
            found[status_of(payload).name] += 1
        if found.total() == count:
            break
    return found


@pytest.mark.parametrize("method", [GET_TASK, HEALTH_CHECK, WATCH])
def test_a_call_that_ends_without_a_message_is_refused(address: str, method: str) -> None:
    with connected(address) as client:
        _, opening = client.headers(method, end_stream=True)
        client.send(opening)
        assert ends(client, 1) == {"INVALID_ARGUMENT": 1}


@pytest.mark.parametrize("method", [GET_TASK, HEALTH_CHECK, WATCH])
def test_a_message_that_does_not_come_is_not_waited_for_without_end(sqlite_url: str, method: str) -> None:
    with running_service(settings_for(sqlite_url, max_call_seconds=0.2)) as address, connected(address) as client:
        _, opening = client.headers(method)
        client.send(opening)
        assert ends(client, 1) == {"INVALID_ARGUMENT": 1}


def test_calls_without_a_message_keep_no_others_out(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_limits, "MAX_RECEIVING", 20)
    with running_service(settings_for(sqlite_url, max_in_flight=10)) as address, connected(address) as client:
        for _ in range(50):
            client.send(client.headers(GET_TASK)[1])
        assert ends(client, 30) == {"INVALID_ARGUMENT": 30}
        with honest(address) as api:
            assert api.create().title


def test_large_responses_that_a_client_does_not_take_are_bounded(address: str) -> None:
    user, text = new_user(), "é" * 5000
    with grpc.insecure_channel(address) as channel:
        api = Api(channel, user)
        made = [
            api.start("CreateTask", tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="t", description=text)))
            for _ in range(120)
        ]
        assert all(call.result().id for call in made)
    page = tasks_pb2.ListTasksRequest(page_size=1000).SerializeToString()  # 1.2 MB of tasks
    with connected(address, initial_window_size=0) as client:
        for _ in range(20):
            client.call(LIST_TASKS, page, user)
        # Headers have no window: what is refused is heard, and 6 pages wait.
        assert ends(client, 14) == {"RESOURCE_EXHAUSTED": 14}
        with honest(address) as api:
            assert api.create().title
    # The memory is free again when the connection is gone.
    with grpc.insecure_channel(address) as channel:
        pages = [Api(channel, user).start("ListTasks", tasks_pb2.ListTasksRequest(page_size=1000)) for _ in range(4)]
        assert [len(call.result().tasks) for call in pages] == [120] * 4


def test_small_responses_that_a_client_does_not_take_are_counted(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_limits, "MAX_UNSENT_RESPONSES", 30)
    with connected(address, initial_window_size=0) as client:
        for _ in range(30):
            client.call(LIST_TASKS)
        finished = (kind == HEADERS for kind, *_ in client.frames(DEADLINE))
        assert sum(itertools.islice(filter(None, finished), 30)) == 30  # headers have no window, messages do
        for _ in range(10):
            client.call(LIST_TASKS)
        assert ends(client, 10) == {"RESOURCE_EXHAUSTED": 10}


def test_streams_before_the_settings_are_acknowledged_are_bounded(address: str) -> None:
    with connected(address, acknowledge=False) as client:
        for _ in range(150):
            client.call(GET_TASK)
        found = ends(client, 150)
    assert found["RST_STREAM"] == 50
    with honest(address) as api:
        assert api.create().title


@pytest.mark.parametrize("method", [GET_TASK, HEALTH_CHECK, WATCH])
def test_metadata_over_the_limit_is_refused_before_the_settings_are_acknowledged(address: str, method: str) -> None:
    with connected(address, acknowledge=False) as client:
        client.send(client.bomb(method, 2**20))
        assert ends(client, 1) == {"RESOURCE_EXHAUSTED": 1}
    with honest(address) as api:
        assert api.create().title


def test_a_client_that_never_acknowledges_the_settings_is_disconnected(sqlite_url: str) -> None:
    with (
        running_service(settings_for(sqlite_url, handshake_timeout=0.2)) as address,
        connected(address, acknowledge=False) as client,
    ):
        assert [kind for kind, *_ in client.frames(DEADLINE)][-1] == GOAWAY


def test_data_behind_the_end_of_a_stream_harms_no_one_else(address: str) -> None:
    with connected(address) as client, honest(address) as api:
        for _ in range(200):
            stream = client.call(GET_TASK)
            client.send(frame(DATA, END_STREAM, stream, b"more"))
        assert api.create().title


def test_many_calls_at_once_on_one_connection_all_succeed(address: str) -> None:
    async def call_all(count: int) -> Counter[str]:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = tasks_pb2_grpc.TaskServiceStub(channel)

            async def call() -> str:
                try:
                    await stub.ListTasks(tasks_pb2.ListTasksRequest(), metadata=(("x-user-id", "many"),), timeout=120)
                except grpc.aio.AioRpcError as error:
                    return f"{error.code().name}: {error.details()}"
                return "OK"

            return Counter(await asyncio.gather(*(call() for _ in range(count))))

    assert asyncio.run(call_all(3000)) == {"OK": 3000}
