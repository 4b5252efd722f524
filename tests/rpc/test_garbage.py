"""Calls leave no reference cycles of ours: the garbage collector's pauses would delay every call."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc.aio import AbortError, AioRpcError
from taskwell.v1 import tasks_pb2

from service.errors import RequestError
from service.rest.responses import HttpError
from service.tasks.coalescer import _Batch, _Call
from tests.rest.client import Client, RestApi
from tests.running import Api, running_addresses, running_service, settings_for

# gRPC's objects for a call. It leaves others behind, but these hold the call in the core.
_GRPC_CALL = ("RPCState", "_ServicerContext")
NO_TASK = "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234"


@contextmanager
def saved_garbage() -> Iterator[list[object]]:
    """All that reference counting alone does not free."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize(
    ("named", "task_id"),
    [(True, NO_TASK), (True, "no id"), (False, NO_TASK), (True, "")],
    ids=["not found", "invalid", "nobody's", "found"],
)
def test_an_answered_call_is_forgotten_at_once(sqlite_url: str, named: bool, task_id: str) -> None:
    with running_service(settings_for(sqlite_url)) as address, grpc.insecure_channel(address) as channel:
        api = Api(channel)
        request = tasks_pb2.GetTaskRequest(id=task_id or api.create().id)
        if not named:
            api.metadata.clear()
        with saved_garbage() as garbage:
            calls = [api.start("GetTask", request) for _ in range(100)]
            for call in calls:
                call.exception()
            Api(channel).list()  # when this is answered, nothing is left to be done for those
            gc.collect()
            assert garbage
            ours = [
                each
                for each in garbage
                if isinstance(each, (RequestError, AbortError, _Call, _Batch)) or type(each).__name__ in _GRPC_CALL
            ]
        assert not ours, f"{len(ours)} such as {ours[0]!r}"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/tasks", 200),
        (f"/v1/tasks/{NO_TASK}", 404),
        ("/v1/tasks/x", 400),
        ("/v1/tasks?x=1", 400),
        ("/nowhere", 404),
    ],
)
def test_so_is_a_request(sqlite_url: str, path: str, status: int) -> None:
    with running_addresses(settings_for(sqlite_url, rest_address="127.0.0.1:0")) as addresses:
        client = Client(addresses.rest)
        api = RestApi(client)
        with saved_garbage() as garbage:
            assert {api.send("GET", path).status for _ in range(20)} == {status}
            api.send("GET", "/healthz")
            gc.collect()
            ours = [each for each in garbage if isinstance(each, (RequestError, AioRpcError, HttpError))]
        client.close()
        assert not ours, f"{len(ours)} such as {ours[0]!r}"
