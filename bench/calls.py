"""The measured calls: their encoded requests, their user, and a query that counts their effects."""

import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from bench.database import CHANGED, CHANGER, COMPLETER, DELETER, LISTER, READ, READER, WRITER, task_id
from bench.load import LoadFailed

PAGE = 20  # tasks on a page of the measured lists
_DESCRIPTION = "Sixty characters or so of what there is to do about it, and why."
_MASK = FieldMask(paths=["title"])


@dataclass(frozen=True, slots=True)
class Call:
    """One measured method."""

    method: str
    user: str
    requests: Callable[[int], Iterable[Message]]
    """Makes the requests; the argument is the number of tasks to complete and to delete."""
    spends: bool = False
    """True if every request works only once."""
    effect: str = ""
    """A query that counts the effects of the calls so far."""

    @property
    def path(self) -> str:
        return f"/taskwell.v1.TaskService/{self.method}"

    @property
    def varies(self) -> bool:
        """True if the requests must differ, which h2load cannot do."""
        return self.method in {"UpdateTask", "CompleteTask", "DeleteTask"}


def _update(number: int, title: str) -> Message:
    return tasks_pb2.UpdateTaskRequest(task=tasks_pb2.Task(id=task_id(number), title=title), update_mask=_MASK)


def _creates(_spent: int) -> Iterable[Message]:
    task = tasks_pb2.Task(title="Task 1 of the benchmark", description=_DESCRIPTION)
    return [tasks_pb2.CreateTaskRequest(task=task)]


def _updates(_spent: int) -> Iterable[Message]:
    """Give every task one title, then every task another. Titles are new for each load, so each call changes a task."""
    titles = [f"Task {time.monotonic_ns()}{which} of the benchmark" for which in "ab"]
    return chain.from_iterable((_update(n, title) for n in range(1, CHANGED + 1)) for title in titles)


GET = Call("GetTask", READER, lambda _: (tasks_pb2.GetTaskRequest(id=task_id(n)) for n in range(1, READ + 1)))
CREATE = Call("CreateTask", WRITER, _creates, effect=f"SELECT count(*) FROM tasks WHERE user_id = '{WRITER}'")
LIST = Call("ListTasks", LISTER, lambda _: [tasks_pb2.ListTasksRequest(page_size=PAGE)])
UPDATE = Call(
    "UpdateTask",
    CHANGER,
    _updates,
    effect=f"SELECT coalesce(sum(version - 1), 0)::bigint FROM tasks WHERE user_id = '{CHANGER}'",
)
COMPLETE = Call(
    "CompleteTask",
    COMPLETER,
    lambda spent: (tasks_pb2.CompleteTaskRequest(id=task_id(n)) for n in range(1, spent + 1)),
    spends=True,
    effect=f"SELECT count(*) FROM tasks WHERE user_id = '{COMPLETER}' AND status = 2",
)
DELETE = Call(
    "DeleteTask",
    DELETER,
    lambda spent: (tasks_pb2.DeleteTaskRequest(id=task_id(n)) for n in range(1, spent + 1)),
    spends=True,
    effect=f"SELECT -count(*) FROM tasks WHERE user_id = '{DELETER}'",
)
CALLS = (GET, CREATE, LIST, UPDATE, COMPLETE, DELETE)


def frame(message: Message) -> bytes:
    """Frame a message as gRPC does: a byte for "uncompressed", four for the length, then the message."""
    data = message.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data


def write_bodies(call: Call, path: Path, spent: int, first: int = 0, last: int | None = None) -> int:
    """Write the frames of requests[first:last] into a file. Returns their number."""
    frames = [frame(request) for request in call.requests(spent)][first:last]
    path.write_bytes(b"".join(frames))
    return len(frames)


def answer_size(address: str, call: Call) -> int:
    """Make the call once with a real client. Returns the size of the framed response. Raises LoadFailed.

    A call whose requests must differ is replaced by GetTask.
    """
    if call.varies:
        call = GET
    request = next(iter(call.requests(1)))
    with grpc.insecure_channel(address) as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        try:
            answer: Message = getattr(stub, call.method)(request, metadata=(("x-user-id", call.user),), timeout=20)
        except grpc.RpcError as error:
            raise LoadFailed(f"{call.method} failed: {error}") from error
    return len(frame(answer))
