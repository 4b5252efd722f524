"""Calls every RPC of a running service and prints each request and response. `make run` first, then `make demo`.

It creates one task, and always deletes it again.
"""

import argparse
import sys
from collections.abc import Callable
from textwrap import indent
from typing import TypeVar
from uuid import uuid4

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from taskwell.v1 import tasks_pb2
from taskwell.v1.tasks_pb2 import Task
from taskwell.v1.tasks_pb2_grpc import TaskServiceStub

TIMEOUT = 10.0  # s; of each call

Response = TypeVar("Response", bound=Message)


class NoTaskwell(Exception):
    """There is no Taskwell at the address."""


class Client:
    """Makes the calls of one user and prints them."""

    def __init__(self, channel: grpc.Channel, user: str) -> None:
        self.stub = TaskServiceStub(channel)
        self._metadata = (("x-user-id", user),)

    def call(self, purpose: str, method: Callable[..., Response], request: Message) -> Response:
        """Make a call that must succeed."""
        outcome = self._outcome(purpose, method, request)
        if isinstance(outcome, grpc.RpcError):
            sys.exit("demo: this call should have succeeded")
        return outcome

    def fail(self, purpose: str, method: Callable[..., Message], request: Message) -> None:
        """Make a call that must fail."""
        if not isinstance(self._outcome(purpose, method, request), grpc.RpcError):
            sys.exit("demo: this call should have failed")

    def _outcome(self, purpose: str, method: Callable[..., Response], request: Message) -> Response | grpc.RpcError:
        outcome: Response | grpc.RpcError
        try:
            outcome = method(request, metadata=self._metadata, timeout=TIMEOUT)
            shown = f"response {as_json(outcome)}"
        except grpc.RpcError as error:
            outcome, shown = error, f"error {described(error)}"
        print(f"{request.DESCRIPTOR.name.removesuffix('Request')}: {purpose}")
        print(indent(f"request {as_json(request)}\n{shown}\n", "  "))
        return outcome


def as_json(message: Message) -> str:
    return MessageToJson(message, ensure_ascii=False)


def described(error: grpc.RpcError) -> str:
    """The code, reason and message of an error. Raises NoTaskwell for an error without a reason."""
    trailers = {entry.key: entry.value for entry in error.trailing_metadata() or ()}
    info = ErrorInfo()
    for detail in Status.FromString(trailers.get("grpc-status-details-bin", b"")).details:
        if detail.Unpack(info):
            return f"{error.code().name}, {info.reason}: {error.details()}"
    raise NoTaskwell


def tour(client: Client) -> None:
    """Create a task, read and change it, and delete it."""
    stub = client.stub
    create = tasks_pb2.CreateTaskRequest(task=Task(title="Buy milk", description="Two litres"), request_id=str(uuid4()))
    task = client.call("a new task; its request_id makes retries safe", stub.CreateTask, create)
    get = tasks_pb2.GetTaskRequest(id=task.id)
    try:
        blank = tasks_pb2.CreateTaskRequest(task=Task(title=" "))
        client.fail("a title of white space alone", stub.CreateTask, blank)
        client.call("one task", stub.GetTask, get)
        client.call("the newest tasks, a page at a time", stub.ListTasks, tasks_pb2.ListTasksRequest(page_size=2))
        update = tasks_pb2.UpdateTaskRequest(
            task=Task(id=task.id, title="Buy oat milk", etag=task.etag), update_mask=FieldMask(paths=["title"])
        )
        client.call("a new title, if nobody has changed the task since", stub.UpdateTask, update)
        client.fail("again, with an etag that is stale by now", stub.UpdateTask, update)
        client.call("done", stub.CompleteTask, tasks_pb2.CompleteTaskRequest(id=task.id))
    finally:
        client.call("deleted permanently", stub.DeleteTask, tasks_pb2.DeleteTaskRequest(id=task.id))
    client.fail("the task is gone", stub.GetTask, get)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("address", nargs="?", default="127.0.0.1:50051", help="host:port of the service (%(default)s)")
    parser.add_argument("--user", default="demo", help="the user to call as (%(default)s)")
    arguments = parser.parse_args()
    with grpc.insecure_channel(arguments.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            tour(Client(channel, arguments.user))
        except NoTaskwell:
            sys.exit(f"demo: there is no Taskwell at {arguments.address}: run 'make run' first")
    return 0


if __name__ == "__main__":
    sys.exit(main())
