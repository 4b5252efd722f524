"""The methods that both clients share: they build the request, and choose whether it may be retried."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, get_args
from uuid import UUID, uuid4

from google.protobuf.field_mask_pb2 import FieldMask
from taskwell.v1 import tasks_pb2
from taskwell.v1.tasks_pb2 import Task

from taskwell_client import arguments
from taskwell_client.caller import NOBODY, AsyncToken, Caller, bearing, named
from taskwell_client.connection import Call, Connection

if TYPE_CHECKING:
    from typing import TypeAlias

    from typing_extensions import Self

    Status: TypeAlias = tasks_pb2.TaskStatus.ValueType

INCOMPLETE = tasks_pb2.TASK_STATUS_INCOMPLETE
COMPLETE = tasks_pb2.TASK_STATUS_COMPLETE
ANY_STATUS = tasks_pb2.TASK_STATUS_UNSPECIFIED

MAX_IN_FLIGHT = 100
"""Default number of calls in flight of the methods that make many calls."""

# The results of the methods: plain values for the sync client, coroutines for the asyncio client.
TaskT = TypeVar("TaskT")
NoneT = TypeVar("NoneT")
PageT = TypeVar("PageT")
IteratorT = TypeVar("IteratorT")
OutcomesT = TypeVar("OutcomesT")
DeletionsT = TypeVar("DeletionsT")


class NewTask(NamedTuple):
    """A task for `create_many`. The arguments are those of `create`."""

    title: str
    description: str = ""
    request_id: str | UUID | None = None


class Tasks(ABC, Generic[TaskT, NoneT, PageT, IteratorT, OutcomesT, DeletionsT]):
    """The tasks of one user.

    Every method takes a `timeout` (s) for the whole call with its retries; the default is the client's. Every method
    raises a subclass of TaskwellError when the call fails, and TypeError for an argument of the wrong type.
    """

    def __init__(self, connection: Connection, caller: Caller = NOBODY, *, timeout: float, insecure: bool) -> None:
        self._connection = connection
        self._caller = caller
        self._timeout = arguments.timeout("timeout", timeout)
        self._insecure = arguments.flag("insecure", insecure)

    def __init_subclass__(cls) -> None:
        """Annotate the methods with the results of this client, for `help`: it would show type variables."""
        super().__init_subclass__()
        [base] = cls.__orig_bases__  # type: ignore[attr-defined]
        results = dict(zip((each.__name__ for each in Tasks.__parameters__), get_args(base), strict=True))  # type: ignore[attr-defined]
        for name, method in vars(Tasks).items():
            if isinstance(method, FunctionType) and method.__annotations__.get("return") in results:
                setattr(cls, name, _with_result(method, results[method.__annotations__["return"]]))

    def __repr__(self) -> str:
        shown = [repr(self._connection.target), self._caller.shown, "closed" if self._connection.is_closed else ""]
        return f"{type(self).__name__}({', '.join(filter(None, shown))})"

    def as_user(self, user: str) -> Self:
        """A cheap copy of this client for another user, over the same connections.

        A service that acts for many users opens one client and calls `client.as_user(name)` for each request.
        """
        return self._as(named(user))

    def create(
        self, title: str, description: str = "", *, request_id: str | UUID | None = None, timeout: float | None = None
    ) -> TaskT:
        """Create a task. Retries are safe, because every call has a `request_id`: a new UUID unless you give one.

        Give your own to create a task only once for some event, however often your program sees it: the same request_id
        with the same content returns the task of the first call. Raises AlreadyExists if the content differs.

            client.create("Ship order 4711", request_id=uuid5(ORDERS, "4711"))
        """
        return self._call(_creation(NewTask(title, description, request_id)), timeout)

    def create_many(
        self, tasks: Iterable[str | NewTask], *, max_in_flight: int = MAX_IN_FLIGHT, timeout: float | None = None
    ) -> OutcomesT:
        """Create several tasks, given by their titles or as NewTask: up to `max_in_flight` calls at once.

        Returns the outcomes in the order of the tasks: each is the created task, or the TaskwellError of that task's
        call. The timeout is that of each call. An invalid argument raises before anything is sent.

            for outcome in client.create_many(["Buy milk", NewTask("Call Bob", "About the milk")]):
                print(outcome if isinstance(outcome, TaskwellError) else outcome.id)
        """
        given = arguments.items("tasks", tasks, "titles or NewTasks")
        return self._calls([_creation(each, f"tasks[{n}]") for n, each in enumerate(given)], max_in_flight, timeout)

    def get(self, id: str | UUID, *, timeout: float | None = None) -> TaskT:  # noqa: A002 - the field's name
        """Get a task. Raises NotFound."""
        return self._call(_get(id), timeout)

    def get_many(
        self, ids: Iterable[str | UUID], *, max_in_flight: int = MAX_IN_FLIGHT, timeout: float | None = None
    ) -> OutcomesT:
        """Get several tasks. Returns tasks and errors as `create_many` does."""
        return self._calls([_get(each, name) for name, each in _named_ids(ids)], max_in_flight, timeout)

    def list(
        self,
        *,
        status: Status = ANY_STATUS,
        oldest_first: bool = False,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> IteratorT:
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
        return self._call(Call("ListTasks", _page_request(status, oldest_first, page_size, token)), timeout)

    def update(
        self,
        id: str | UUID,  # noqa: A002 - the field's name
        *,
        title: str | None = None,
        description: str | None = None,
        status: Status | None = None,
        etag: str | None = None,
        timeout: float | None = None,
    ) -> TaskT:
        """Change the given fields. `description=""` clears the description, `status=INCOMPLETE` reopens the task.

        With the `etag` that you read, the task is changed only if nobody else has changed it since, and Aborted is
        raised otherwise. An update with an etag is never retried. Raises NotFound.
        """
        texts = {"title": title, "description": description}
        given: dict[str, Any] = {
            name: arguments.text(name, value) for name, value in texts.items() if value is not None
        }
        if status is not None:
            given["status"] = arguments.status(status, any_status=False)
        tag = arguments.optional("etag", etag)
        task = Task(id=arguments.identifier("id", id), etag=tag, **given)
        request = tasks_pb2.UpdateTaskRequest(task=task, update_mask=FieldMask(paths=given))
        return self._call(Call("UpdateTask", request, safe=not tag), timeout)

    def complete(
        self,
        id: str | UUID,  # noqa: A002 - the field's name
        *,
        etag: str | None = None,
        timeout: float | None = None,
    ) -> TaskT:
        """Complete a task; does nothing if it is complete. `etag` as in `update`. Raises NotFound."""
        return self._call(_completion(id, etag), timeout)

    def complete_many(
        self, ids: Iterable[str | UUID], *, max_in_flight: int = MAX_IN_FLIGHT, timeout: float | None = None
    ) -> OutcomesT:
        """Complete several tasks. Returns tasks and errors as `create_many` does."""
        return self._calls([_completion(each, None, name) for name, each in _named_ids(ids)], max_in_flight, timeout)

    def delete(
        self,
        id: str | UUID,  # noqa: A002 - the field's name
        *,
        etag: str | None = None,
        allow_missing: bool = False,
        timeout: float | None = None,
    ) -> NoneT:
        """Delete a task permanently. `etag` as in `update`. Raises NotFound, unless `allow_missing`.

        Retried only with `allow_missing` and without an etag.
        """
        return self._call(_deletion(id, etag, allow_missing), timeout)

    def delete_many(
        self,
        ids: Iterable[str | UUID],
        *,
        allow_missing: bool = False,
        max_in_flight: int = MAX_IN_FLIGHT,
        timeout: float | None = None,
    ) -> DeletionsT:
        """Delete several tasks. Returns the outcomes as `create_many` does, with None for each deleted task."""
        calls = [_deletion(each, None, allow_missing, name) for name, each in _named_ids(ids)]
        return self._calls(calls, max_in_flight, timeout)

    def _as(self, caller: Caller) -> Self:
        other = copy.copy(self)
        other._caller = caller  # noqa: SLF001 - the same class
        return other

    def _bearing(self, token: AsyncToken, *, may_await: bool) -> Caller:
        if not (self._connection.is_private or self._insecure):
            raise ValueError(
                "a token over plain text can be read, and used, by everybody on the way: use TLS, "
                "or say that it is insecure if the way is safe by other means"
            )
        return bearing(token, may_await=may_await)

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else arguments.timeout("timeout", timeout)

    @abstractmethod
    def _call(self, call: Call, timeout: float | None) -> Any:  # noqa: ANN401 - a value or an awaitable
        """Make a call. Returns its response, or None for an empty one."""

    @abstractmethod
    def _calls(self, calls: Sequence[Call], max_in_flight: int, timeout: float | None) -> Any:  # noqa: ANN401 - as above
        """Make several calls. Returns their responses and errors in order."""

    @abstractmethod
    def _walk(self, request: tasks_pb2.ListTasksRequest, timeout: float | None) -> Any:  # noqa: ANN401 - as above
        """Iterate over the tasks of this page and of all that follow."""


def _with_result(method: FunctionType, result: object) -> FunctionType:
    """A copy of a method with the type of its result."""
    annotated = FunctionType(
        method.__code__, method.__globals__, method.__name__, method.__defaults__, method.__closure__
    )
    annotated.__kwdefaults__ = method.__kwdefaults__
    annotated.__doc__ = method.__doc__
    annotated.__qualname__ = method.__qualname__
    annotated.__annotations__ = {**method.__annotations__, "return": result}
    return annotated


def _named_ids(ids: Iterable[str | UUID]) -> list[tuple[str, str | UUID]]:
    return [(f"ids[{number}]", each) for number, each in enumerate(arguments.items("ids", ids, "ids"))]


def _creation(new: str | NewTask, name: str = "") -> Call:
    """A CreateTask call. `name` is the argument with the task, empty if its fields are arguments themselves."""
    if name and isinstance(new, str):
        new = NewTask(arguments.text(name, new))
    if not isinstance(new, NewTask):
        raise TypeError(f"{name} must be a title or a NewTask, and not {type(new).__name__}")
    prefix = name and f"{name}."
    task = Task(
        title=arguments.text(f"{prefix}title", new.title),
        description=arguments.text(f"{prefix}description", new.description),
    )
    request_id = arguments.optional(f"{prefix}request_id", new.request_id) or str(uuid4())
    return Call("CreateTask", tasks_pb2.CreateTaskRequest(task=task, request_id=request_id))


def _get(id: str | UUID, name: str = "id") -> Call:  # noqa: A002 - the field's name
    return Call("GetTask", tasks_pb2.GetTaskRequest(id=arguments.identifier(name, id)))


def _completion(id: str | UUID, etag: str | None, name: str = "id") -> Call:  # noqa: A002 - the field's name
    tag = arguments.optional("etag", etag)
    request = tasks_pb2.CompleteTaskRequest(id=arguments.identifier(name, id), etag=tag)
    return Call("CompleteTask", request, safe=not tag)


def _deletion(id: str | UUID, etag: str | None, allow_missing: bool, name: str = "id") -> Call:  # noqa: A002 - the same
    tag = arguments.optional("etag", etag)
    may_be_missing = arguments.flag("allow_missing", allow_missing)
    request = tasks_pb2.DeleteTaskRequest(id=arguments.identifier(name, id), etag=tag, allow_missing=may_be_missing)
    return Call("DeleteTask", request, safe=may_be_missing and not tag)


def _page_request(status: Status, oldest_first: bool, page_size: int, token: str) -> tasks_pb2.ListTasksRequest:
    return tasks_pb2.ListTasksRequest(
        status=arguments.status(status, any_status=True),
        order_by="create_time" if arguments.flag("oldest_first", oldest_first) else "",
        page_size=arguments.page_size(page_size),
        page_token=arguments.text("token", token),
    )
