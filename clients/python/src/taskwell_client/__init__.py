"""The Python client of Taskwell, the task-management microservice.

    from taskwell_client import connect

    with connect("127.0.0.1:50051", user="alice") as client:
        task = client.create("Buy milk")
        for each in client.list():
            print(each.id, each.title)

`connect_async` is the same for asyncio. Responses are the messages of the contract (`taskwell.v1.tasks_pb2`), errors
are subclasses of TaskwellError.
"""

from importlib.metadata import version

from taskwell.v1.tasks_pb2 import ListTasksResponse, Task

from taskwell_client.channels import TLS
from taskwell_client.client import AsyncClient, Client, connect, connect_async
from taskwell_client.errors import (
    Aborted,
    AlreadyExists,
    ClientUnusable,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    TaskwellError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Violation,
)
from taskwell_client.tasks import ANY_STATUS, COMPLETE, INCOMPLETE, NewTask

__version__ = version("taskwell-client")

__all__ = [
    "ANY_STATUS",
    "COMPLETE",
    "INCOMPLETE",
    "TLS",
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "Client",
    "ClientUnusable",
    "DeadlineExceeded",
    "Internal",
    "InvalidArgument",
    "ListTasksResponse",
    "NewTask",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "Task",
    "TaskwellError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Violation",
    "__version__",
    "connect",
    "connect_async",
]
