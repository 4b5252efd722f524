"""A steady load of all six methods, whose failures are the business of the metrics."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

Metadata = tuple[tuple[str, str], ...]


class Load:
    """Threads that call on a channel of their own each, one call after the other."""

    def __init__(
        self,
        connect: Callable[[], grpc.Channel],
        metadata: Callable[[int], Metadata],
        *,
        threads: int,
        pause: float,
        deadline: float,
    ) -> None:
        self._connect = connect
        self._metadata = metadata
        self._pause = pause
        self._deadline = deadline
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        with self._connect() as channel:
            stub = tasks_pb2_grpc.TaskServiceStub(channel)
            while not self._stopped.is_set():
                with suppress(grpc.RpcError):
                    self._live(stub, self._metadata(number), reads_first=number % 2 == 0)

    def _live(self, stub: tasks_pb2_grpc.TaskServiceStub, metadata: Metadata, *, reads_first: bool) -> None:
        """The life of a task. Some threads begin with a write: calls of both kinds are there if the first fails."""

        def call(method: Any, request: Message) -> Any:
            self._stopped.wait(self._pause)
            return method(request, metadata=metadata, timeout=self._deadline)

        if reads_first:
            call(stub.ListTasks, tasks_pb2.ListTasksRequest(page_size=10))
        task = tasks_pb2.Task(title=f"Buy milk at {time.monotonic()}")
        made = call(stub.CreateTask, tasks_pb2.CreateTaskRequest(task=task))
        call(stub.GetTask, tasks_pb2.GetTaskRequest(id=made.id))
        changed = tasks_pb2.Task(id=made.id, title="Buy oat milk")
        call(stub.UpdateTask, tasks_pb2.UpdateTaskRequest(task=changed, update_mask=FieldMask(paths=["title"])))
        call(stub.CompleteTask, tasks_pb2.CompleteTaskRequest(id=made.id))
        call(stub.DeleteTask, tasks_pb2.DeleteTaskRequest(id=made.id))
        if not reads_first:
            call(stub.ListTasks, tasks_pb2.ListTasksRequest(page_size=10))
        call(stub.GetTask, tasks_pb2.GetTaskRequest(id=made.id))  # NOT_FOUND


def insecure(address: str) -> Callable[[], grpc.Channel]:
    """A way to connect to an address, each time with a connection of its own."""
    return lambda: grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])


def as_user(number: int) -> Metadata:
    return (("x-user-id", f"user-{number}"),)


@contextmanager
def loaded(
    connect: Callable[[], grpc.Channel],
    metadata: Callable[[int], Metadata] = as_user,
    *,
    threads: int = 8,
    pause: float = 0.02,
    deadline: float = 5.0,
) -> Iterator[None]:
    """Keep up the load during the block."""
    load = Load(connect, metadata, threads=threads, pause=pause, deadline=deadline)
    load.start()
    try:
        yield
    finally:
        load.stop()
