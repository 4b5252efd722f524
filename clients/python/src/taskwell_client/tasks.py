"""The methods that both clients share: they build the request, and choose whether it may be retried."""

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

# The results of the methods: plain values for the sync client, coroutines for the asyncio client.
OneT = TypeVar("OneT")
NoneT = TypeVar("NoneT")
PageT = TypeVar("PageT")
AllT = TypeVar("AllT")


class Tasks(ABC, Generic[OneT, NoneT, PageT, AllT]):
    """The tasks of one user.

    Every method takes a `timeout` (s) for the whole call with its retries; the default is the client's. Every method
    raises a subclass of TaskwellError when the call fails.
    """

    def __init__(self, channels: Channels, caller: Caller = nobody, *, timeout: float, insecure: bool = False) -> None:
        self._channels = channels
        self._caller = caller
        self._timeout = timeout
        self._insecure = insecure
        # Typed as stubs of sync channels; for the asyncio client they are not, which only `_call` needs to know.
        self._retrying = TaskServiceStub(channels.retrying)  # type: ignore[call-overload]
        self._once = TaskServiceStub(channels.once)  # type: ignore[call-overload]

    def as_user(self, user: str) -> Self:
        """A cheap copy of this client for another user, over the same connections.

        A service that acts for many users opens one client and calls `client.as_user(name)` for each request.
        """
        return self._as(named(user))

    def create(
        self, title: str, description: str = "", *, request_id: str | UUID | None = None, timeout: float | None = None
    ) -> OneT:
        """Create a task. Retries are safe, because every call has a `request_id`: a new UUID unless you give one.

        Give your own to create a task only once for some event, however often your program sees it: the same request_id
        with the same content returns the task of the first call. Raises AlreadyExists if the content differs.

            client.create("Ship order 4711", request_id=uuid5(ORDERS, "4711"))
        """
        task = Task(title=title, description=description)
        request = tasks_pb2.CreateTaskRequest(task=task, request_id=str(request_id or uuid4()))
        return self._call(self._retrying.CreateTask, request, timeout)

    def get(self, id: str, *, timeout: float | None = None) -> OneT:  # noqa: A002 - the field's name
        """Get a task. Raises NotFound."""
        return self._call(self._retrying.GetTask, tasks_pb2.GetTaskRequest(id=id), timeout)

    def list(
        self,
        *,
        status: Status = ANY_STATUS,
        oldest_first: bool = False,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AllT:
        """Iterate over all tasks, or those of one status, newest first. Fetches a page whenever it needs one.

        Every task that exists during the whole iteration is seen exactly once, whatever is written meanwhile. If a page
        fails, the iteration raises the error; it never ends early. The timeout is that of each page.

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
        """Get one page: its `tasks`, and the `next_page_token` of the next page, empty on the last one.

        For programs that pass pages on; others use `list`. Up to `page_size` tasks: 50 if 0, never more than 1000.
        A token is valid only for the user, status and order of its page. Raises InvalidArgument for others.
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
        """Change the given fields. `description=""` clears the description, `status=INCOMPLETE` reopens the task.

        With the `etag` that you read, the task is changed only if nobody else has changed it since, and Aborted is
        raised otherwise. An update with an etag is never retried. Raises NotFound.
        """
        values = {"title": title, "description": description, "status": status}
        given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        request = tasks_pb2.UpdateTaskRequest(task=Task(id=id, etag=etag, **given), update_mask=FieldMask(paths=given))
        return self._call((self._once if etag else self._retrying).UpdateTask, request, timeout)

    def complete(self, id: str, *, etag: str = "", timeout: float | None = None) -> OneT:  # noqa: A002 - as above
        """Complete a task; does nothing if it is complete. `etag` as in `update`. Raises NotFound."""
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
        """Delete a task permanently. `etag` as in `update`. Raises NotFound, unless `allow_missing`.

        Retried only with `allow_missing` and without an etag.
        """
        stub = self._retrying if allow_missing and not etag else self._once
        request = tasks_pb2.DeleteTaskRequest(id=id, etag=etag, allow_missing=allow_missing)
        return self._tell(stub.DeleteTask, request, timeout)

    def _as(self, caller: Caller) -> Self:
        other = copy.copy(self)
        other._caller = caller  # noqa: SLF001 - the same class
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
        """Make a call that returns nothing."""

    @abstractmethod
    def _walk(self, request: tasks_pb2.ListTasksRequest, timeout: float | None) -> Any:  # noqa: ANN401
        """Iterate over the tasks of this page and of all that follow."""


def _page_request(status: Status, oldest_first: bool, page_size: int, token: str) -> tasks_pb2.ListTasksRequest:
    order = "create_time" if oldest_first else ""
    return tasks_pb2.ListTasksRequest(status=status, order_by=order, page_size=page_size, page_token=token)
