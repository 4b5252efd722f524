"""The six methods, once for both clients: what is said to the service, and what of it may be said twice."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID, uuid4

from google.protobuf.field_mask_pb2 import FieldMask
from taskwell.v1 import tasks_pb2
from taskwell.v1.tasks_pb2 import Task
from taskwell.v1.tasks_pb2_grpc import TaskServiceStub

from taskwell_client.caller import AsyncToken, Caller, bearing, named, nobody
from taskwell_client.channels import Channels

if TYPE_CHECKING:
    from typing import TypeAlias

    from typing_extensions import Self

    Status: TypeAlias = tasks_pb2.TaskStatus.ValueType

INCOMPLETE = tasks_pb2.TASK_STATUS_INCOMPLETE
COMPLETE = tasks_pb2.TASK_STATUS_COMPLETE
ANY_STATUS = tasks_pb2.TASK_STATUS_UNSPECIFIED

# What a call answers: the thing itself, or what will be the thing once it was awaited.
OneT = TypeVar("OneT")
NoneT = TypeVar("NoneT")
PageT = TypeVar("PageT")
AllT = TypeVar("AllT")


class Tasks(ABC, Generic[OneT, NoneT, PageT, AllT]):
    """The tasks of one user.

    Every method takes a `timeout` (s) for the whole call, whatever is sent again in it; the client's own if it is not
    given. Every method raises a TaskwellError, of the class that says what happened, when it fails.
    """

    def __init__(self, channels: Channels, caller: Caller = nobody, *, timeout: float, insecure: bool = False) -> None:
        self._channels = channels
        self._caller = caller
        self._timeout = timeout
        self._insecure = insecure
        # Typed as those of sync channels, which they are or are not: only `_call` knows.
        self._retrying = TaskServiceStub(channels.retrying)  # type: ignore[call-overload]
        self._once = TaskServiceStub(channels.once)  # type: ignore[call-overload]

    def as_user(self, user: str) -> Self:
        """The same client, over the same connections, for another user; it costs next to nothing.

        For a service that calls on behalf of many: one client, and `client.as_user(name)` for each request.
        """
        return self._as(named(user))

    def create(
        self, title: str, description: str = "", *, request_id: str | UUID | None = None, timeout: float | None = None
    ) -> OneT:
        """Create a task. It is safe to send again, and is, by the `request_id`: each call makes one unless it is given.

        Give your own to make a task for something only once, however often your program sees it: the same request_id
        and content answer the task that was made the first time. Raises AlreadyExists if the content differs.

            client.create("Ship order 4711", request_id=uuid5(ORDERS, "4711"))
        """
        task = Task(title=title, description=description)
        request = tasks_pb2.CreateTaskRequest(task=task, request_id=str(request_id or uuid4()))
        return self._call(self._retrying.CreateTask, request, timeout)

    def get(self, id: str, *, timeout: float | None = None) -> OneT:  # noqa: A002 - the field's name
        """One task. Raises NotFound."""
        return self._call(self._retrying.GetTask, tasks_pb2.GetTaskRequest(id=id), timeout)

    def list(
        self,
        *,
        status: Status = ANY_STATUS,
        oldest_first: bool = False,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AllT:
        """All tasks, or those of one status, the newest first; fetched page by page as they are asked for.

        A walk meets every task that exists throughout exactly once, whatever is written meanwhile. When a page cannot
        be had the walk ends with the error, and never as if that had been all. The timeout is that of each page.

            for task in client.list(status=INCOMPLETE):
                print(task.id, task.title)
        """
        return self._walk(_page_request(status, oldest_first, page_size, ""), timeout)

    def page(
        self,
        token: str = "",
        *,
        status: Status = ANY_STATUS,
        oldest_first: bool = False,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> PageT:
        """One page: its `tasks`, and the `next_page_token` that brings the next one, empty with the last.

        For programs that hand pages on; others walk with `list`. Up to `page_size` tasks: 50 if 0, never above 1000.
        A token is good only for the user, status and order of the page that it came with; else InvalidArgument.
        """
        return self._call(self._retrying.ListTasks, _page_request(status, oldest_first, page_size, token), timeout)

    def update(
        self,
        id: str,  # noqa: A002 - the field's name
        *,
        title: str | None = None,
        description: str | None = None,
        status: Status | None = None,
        etag: str = "",
        timeout: float | None = None,
    ) -> OneT:
        """Change what is given, and nothing else; `description=""` clears it, `status=INCOMPLETE` reopens the task.

        With the `etag` that you read, the task is changed only if nobody else has changed it since: else Aborted. Such
        an update is not sent again by itself. Raises NotFound.
        """
        values = {"title": title, "description": description, "status": status}
        given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        request = tasks_pb2.UpdateTaskRequest(task=Task(id=id, etag=etag, **given), update_mask=FieldMask(paths=given))
        return self._call((self._once if etag else self._retrying).UpdateTask, request, timeout)

    def complete(self, id: str, *, etag: str = "", timeout: float | None = None) -> OneT:  # noqa: A002 - as above
        """Set a task complete; one that is complete stays as it is. The `etag` as in `update`. Raises NotFound."""
        request = tasks_pb2.CompleteTaskRequest(id=id, etag=etag)
        return self._call((self._once if etag else self._retrying).CompleteTask, request, timeout)

    def delete(
        self,
        id: str,  # noqa: A002 - as above
        *,
        etag: str = "",
        allow_missing: bool = False,
        timeout: float | None = None,
    ) -> NoneT:
        """Delete a task for good. The `etag` as in `update`. Raises NotFound, unless `allow_missing`.

        Only with `allow_missing`, and without an etag, it is sent again by itself when the answer was lost.
        """
        stub = self._retrying if allow_missing and not etag else self._once
        request = tasks_pb2.DeleteTaskRequest(id=id, etag=etag, allow_missing=allow_missing)
        return self._tell(stub.DeleteTask, request, timeout)

    def _as(self, caller: Caller) -> Self:
        other = copy.copy(self)
        other._caller = caller  # noqa: SLF001 - one of ours
        return other

    def _bearing(self, token: AsyncToken) -> Caller:
        if not (self._channels.is_private or self._insecure):
            raise ValueError(
                "a token over plain text can be read, and used, by everybody on the way: use TLS, "
                "or say that it is insecure if the way is safe by other means"
            )
        return bearing(token)

    @abstractmethod
    def _call(self, method: Callable[..., Any], request: Any, timeout: float | None) -> Any:  # noqa: ANN401
        """Make a call."""

    @abstractmethod
    def _tell(self, method: Callable[..., Any], request: Any, timeout: float | None) -> Any:  # noqa: ANN401
        """Make a call whose answer says nothing."""

    @abstractmethod
    def _walk(self, request: tasks_pb2.ListTasksRequest, timeout: float | None) -> Any:  # noqa: ANN401
        """Every task of every page from this one on."""


def _page_request(status: Status, oldest_first: bool, page_size: int, token: str) -> tasks_pb2.ListTasksRequest:
    order = "create_time" if oldest_first else ""
    return tasks_pb2.ListTasksRequest(status=status, order_by=order, page_size=page_size, page_token=token)
