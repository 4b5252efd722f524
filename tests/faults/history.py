"""The history of a run: every call with its request, times and outcome, every fault, and samples of the server."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc
from taskwell_client import AsyncClient, TaskwellError, connect_async

RAW, CLIENT = "raw stub", "taskwell-client"

_CONNECTIONS = 4
"""Connections of the raw stubs, which calls take in turn."""
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    # A server that was restarted is found again at once: the time to recovery is that of the server.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 2000),  # which is also the time that a connection attempt has
    ("grpc.max_reconnect_backoff_ms", 200),
)


@dataclass(slots=True)
class Call:
    """One call. Times are of the monotonic clock of the process that made all calls (s)."""

    number: int
    method: str
    """CreateTask, ListTasks, GetTask, UpdateTask, DeleteTask or CompleteTask."""
    user: str
    task_id: str
    """The task that the call is for; empty for CreateTask and ListTasks."""
    request: Any
    start: float
    end: float = 0.0
    code: str = ""
    """Name of the status code."""
    reason: str = ""
    """ErrorInfo.reason; empty if the status has no details."""
    retry_delay: float | None = None
    """RetryInfo.retry_delay (s)."""
    message: str = ""
    response: Any = None
    deadline: float = 0.0
    """Time that the client gives the call (s)."""
    client: str = RAW
    walk: int = 0
    """Number of the walk over pages that a ListTasks belongs to; 0 for none."""
    purpose: str = ""
    """The case that the workload tries with this call, where it is not plain use: one of workload.PURPOSES."""

    def __str__(self) -> str:
        fields = " ".join(str(self.request).split())
        outcome = " ".join(str(self.response).split()) if self.response else f"{self.reason} {self.message}"
        times = f"{self.start:.4f} to {self.end:.4f}"
        return f"#{self.number} {times} {self.user} {self.method}({fields[:200]}) {self.code} {outcome[:300]}"


@dataclass(slots=True)
class FaultRecord:
    """One fault as it was injected."""

    name: str
    start: float
    end: float
    server_away: bool = False
    recovers_within: float = 5.0
    memory_short: bool = False


@dataclass(slots=True)
class Sample:
    """State of the server at one moment: resident memory (bytes), and how long a health check took (s)."""

    at: float
    resident: int
    health_seconds: float


@dataclass(slots=True)
class History:
    """Everything that a run recorded."""

    seed: int
    calls: list[Call] = field(default_factory=list)
    faults: list[FaultRecord] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    users: Sequence[str] = ()
    max_call_seconds: float = 30.0
    """The server's own limit for a call (s)."""


class Recorder:
    """Makes calls and records them in a history."""

    def __init__(self, address: str, history: History) -> None:
        self.history = history
        self._numbers = itertools.count(1)
        self._channels = [grpc.aio.insecure_channel(address, options=_OPTIONS) for _ in range(_CONNECTIONS)]
        stubs = [tasks_pb2_grpc.TaskServiceStub(channel) for channel in self._channels]
        self._turns = itertools.cycle(stubs)
        self._client: AsyncClient = connect_async(address, options=_OPTIONS)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def call(self, user: str, method: str, request: Any, *, deadline: float, **more: Any) -> Call:
        """Make a call with a raw stub. `more` are other fields of Call."""
        call = self._begun(user, method, request, deadline, more)
        try:
            stub: Any = getattr(next(self._turns), method)
            call.response = await stub(request, metadata=(("x-user-id", user),), timeout=deadline)
            call.code = "OK"
        except grpc.aio.AioRpcError as error:
            call.code, call.message = error.code().name, error.details() or ""
            call.reason, call.retry_delay = _details(error.trailing_metadata())
        call.end = monotonic()
        self.history.calls.append(call)
        return call

    async def call_client(self, user: str, method: str, request: Any, *, deadline: float, **more: Any) -> Call:
        """Make a call with our client, which repeats it where that is safe."""
        call = self._begun(user, method, request, deadline, more)
        call.client = CLIENT
        try:
            call.response = await _by_client(self._client.as_user(user), request, deadline)
            call.code = "OK"
        except TaskwellError as error:
            call.code, call.message = error.code.name, error.message
            call.reason, call.retry_delay = error.reason, error.retry_delay
        call.end = monotonic()
        self.history.calls.append(call)
        return call

    def _begun(self, user: str, method: str, request: Any, deadline: float, more: dict[str, Any]) -> Call:
        return Call(
            next(self._numbers), method, user, _task_id(request), request, monotonic(), deadline=deadline, **more
        )


def _by_client(client: AsyncClient, request: Any, timeout: float) -> Any:
    match request:
        case tasks_pb2.CreateTaskRequest():
            task = request.task
            return client.create(task.title, task.description, request_id=request.request_id or None, timeout=timeout)
        case tasks_pb2.GetTaskRequest():
            return client.get(request.id, timeout=timeout)
        case tasks_pb2.UpdateTaskRequest():
            values: dict[str, Any] = {name: getattr(request.task, name) for name in request.update_mask.paths}
            return client.update(request.task.id, etag=request.task.etag or None, timeout=timeout, **values)
        case tasks_pb2.CompleteTaskRequest():
            return client.complete(request.id, etag=request.etag or None, timeout=timeout)
        case tasks_pb2.DeleteTaskRequest():
            return client.delete(
                request.id, etag=request.etag or None, allow_missing=request.allow_missing, timeout=timeout
            )
        case tasks_pb2.ListTasksRequest():
            return client.page(
                request.page_token,
                status=request.status,
                oldest_first=request.order_by == "create_time",
                page_size=request.page_size,
                timeout=timeout,
            )
    raise AssertionError(type(request))


def _task_id(request: Message) -> str:
    if isinstance(request, tasks_pb2.UpdateTaskRequest):
        return request.task.id
    return str(getattr(request, "id", ""))


_known_details: dict[bytes, tuple[str, float | None]] = {}


def _details(trailers: Any) -> tuple[str, float | None]:
    """Reason and retry delay of a failed call. The same bytes come again and again, and are parsed once."""
    packed = next((value for key, value in trailers or () if key == "grpc-status-details-bin"), None)
    if packed is None:
        return "", None
    if packed not in _known_details:
        if len(_known_details) > 1000:  # those of refusals with an id of their own are all different
            _known_details.clear()
        _known_details[packed] = _parsed(packed)
    return _known_details[packed]


def _parsed(packed: bytes) -> tuple[str, float | None]:
    reason, delay = "", None
    for detail in status_pb2.Status.FromString(packed).details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            reason = error_details_pb2.ErrorInfo.FromString(detail.value).reason
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            delay = retry.seconds + retry.nanos / 10**9
    return reason, delay
