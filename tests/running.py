"""Runs a real server in a thread with its own event loop; a client for one user."""

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
import pytest
import uvloop
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from service.config.settings import Settings
from service.server.app import Service
from service.server.startup import prepare_schema
from tests.distribution import IS_DISTRIBUTED

INCOMPLETE = tasks_pb2.TASK_STATUS_INCOMPLETE
COMPLETE = tasks_pb2.TASK_STATUS_COMPLETE
DEADLINE = 30.0  # s; generous: only for calls that hang


def settings_for(database_url: str, **more: Any) -> Settings:
    """Return settings with these values, a free port, and defaults."""
    values = {"grpc_address": "127.0.0.1:0", "database_url": database_url, **more}
    if IS_DISTRIBUTED and not database_url.startswith("sqlite"):
        values.setdefault("database_distributed", "true")
    return Settings(_env_file=None, **values)  # type: ignore[call-arg]  # an argument of pydantic-settings


@contextmanager
def running_service(settings: Settings) -> Iterator[str]:
    """Run a service on a prepared schema for the length of the block; yield its gRPC address."""
    with running_addresses(settings) as addresses:
        yield addresses.grpc


@dataclass(frozen=True)
class Addresses:
    """The addresses of a service."""

    grpc: str
    rest: str


@contextmanager
def running_addresses(settings: Settings) -> Iterator[Addresses]:
    """Run a service as `running_service` does; yield both of its addresses."""
    settings = prepare_schema(settings)
    started: list[Addresses] = []
    ready = threading.Event()
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    stop = asyncio.Event()

    async def serve() -> None:
        service = Service(settings)
        try:
            started.append(Addresses(str(await service.start()), str(service.rest_address)))
        finally:
            ready.set()
        await stop.wait()
        await service.drain(grace=1)
        await service.close()

    thread = threading.Thread(target=runner.run, args=(serve(),), daemon=True)
    with runner:
        loop = runner.get_loop()
        thread.start()
        ready.wait()
        try:
            yield started[0]
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()


def new_user() -> str:
    return f"user-{uuid4()}"


def caller(user: str | None, token: str | None) -> tuple[str, list[tuple[str, str]]]:
    """Return a user, a new one if None, and the metadata that authenticates them."""
    user = user or new_user()
    return user, [("authorization", f"Bearer {token}")] if token is not None else [("x-user-id", user)]


class Api:
    """The methods of TaskService as one user calls them, named by x-user-id or by a token."""

    def __init__(self, channel: grpc.Channel, user: str | None = None, *, token: str | None = None) -> None:
        self.channel = channel
        self.user, self.metadata = caller(user, token)
        self.stub = tasks_pb2_grpc.TaskServiceStub(channel)

    def as_user(self, user: str | None = None) -> "Api":
        return Api(self.channel, user)

    def call(self, method: str, request: Message) -> Any:
        return self.start(method, request).result()

    def start(self, method: str, request: Message) -> Any:
        """Start a call and return its future."""
        return getattr(self.stub, method).future(request, metadata=self.metadata, timeout=DEADLINE)

    def create(
        self, title: str = "Buy milk", description: str = "", *, request_id: str = "", status: Any = 0
    ) -> tasks_pb2.Task:
        task = tasks_pb2.Task(title=title, description=description, status=status)
        created: tasks_pb2.Task = self.call("CreateTask", tasks_pb2.CreateTaskRequest(task=task, request_id=request_id))
        return created

    def get(self, task_id: str) -> tasks_pb2.Task:
        task: tasks_pb2.Task = self.call("GetTask", tasks_pb2.GetTaskRequest(id=task_id))
        return task

    def list(self, **fields: Any) -> tasks_pb2.ListTasksResponse:
        page: tasks_pb2.ListTasksResponse = self.call("ListTasks", tasks_pb2.ListTasksRequest(**fields))
        return page

    def walk(self, **fields: Any) -> Iterator[tasks_pb2.Task]:
        """Yield the tasks of all pages."""
        token = ""
        while True:
            page = self.list(page_token=token, **fields)
            yield from page.tasks
            token = page.next_page_token
            if not token:
                return

    def update(self, task_id: str, mask: Sequence[str] | None = None, **fields: Any) -> tasks_pb2.Task:
        request = tasks_pb2.UpdateTaskRequest(
            task=tasks_pb2.Task(id=task_id, **fields), update_mask=None if mask is None else FieldMask(paths=mask)
        )
        task: tasks_pb2.Task = self.call("UpdateTask", request)
        return task

    def delete(self, task_id: str, **fields: Any) -> None:
        self.call("DeleteTask", tasks_pb2.DeleteTaskRequest(id=task_id, **fields))

    def complete(self, task_id: str, **fields: Any) -> tasks_pb2.Task:
        task: tasks_pb2.Task = self.call("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task_id, **fields))
        return task


@dataclass
class Refusal:
    """The details of a failed call; filled when the block of `refused` ends."""

    message: str = ""
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    fields: Sequence[str] = ()
    retry_delay: float | None = None


def refusal_of(error: Any) -> Refusal:
    """Return the details of a failed call. Every error must have them, and they must agree with the status."""
    trailers: dict[str, Any] = dict(error.trailing_metadata() or ())
    assert "grpc-status-details-bin" in trailers, f"no details: {error.code()} {error.details()}"
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (error.code().value[0], error.details()) == (status.code, status.message)
    refusal = Refusal(message=status.message)
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            assert info.domain == "taskwell.v1"
            refusal.reason, refusal.metadata = info.reason, dict(info.metadata)
            assert all(value in status.message for value in info.metadata.values())
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad_request = error_details_pb2.BadRequest.FromString(detail.value)
            refusal.fields = [violation.field for violation in bad_request.field_violations]
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            refusal.retry_delay = retry.seconds + retry.nanos / 10**9
    return refusal


@contextmanager
def refused(code: grpc.StatusCode, reason: str) -> Iterator[Refusal]:
    """Expect the call in the block to fail with this code and reason."""
    refusal = Refusal()
    with pytest.raises(grpc.RpcError) as caught:
        yield refusal
    error: Any = caught.value
    assert error.code() == code, error.details()
    refusal.__dict__.update(refusal_of(error).__dict__)
    assert refusal.reason == reason
