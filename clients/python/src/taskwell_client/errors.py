"""How calls fail: one exception for each gRPC status, with what the service says in the details taken out.

try:
    client.complete(task.id, etag=task.etag)
except taskwell_client.Aborted:
    task = client.get(task.id)  # somebody else was faster: look again and decide anew
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

_DETAILS = "grpc-status-details-bin"
_DOMAIN = "taskwell.v1"


class Violation(NamedTuple):
    """One thing wrong with one field of a request."""

    field: str
    """The path of the field: `task.title`."""
    description: str
    """What is wrong with it, and what to change."""


class TaskwellError(Exception):
    """A call failed. `str()` of it is the message; the error of grpc is its `__cause__`."""

    def __init__(
        self,
        message: str,
        code: StatusCode = StatusCode.UNKNOWN,
        reason: str = "",
        violations: tuple[Violation, ...] = (),
        retry_delay: float | None = None,
    ) -> None:
        super().__init__(message, code, reason, violations, retry_delay)
        self.message = message
        """A sentence that says what to do, where it is the service that answers; else what gRPC says."""
        self.code = code
        self.reason = reason
        """The service's stable name of the failure, `ETAG_STALE`; empty when the error is not the service's own."""
        self.violations = violations
        """What is wrong with which field, of an INVALID_ARGUMENT."""
        self.retry_delay = retry_delay
        """After how long (s) the same call may succeed; None where the service does not say so."""

    def __str__(self) -> str:
        return self.message


class InvalidArgument(TaskwellError):
    """The request is not as it should be: `violations` names the fields. Also a page token that cannot be used."""


class NotFound(TaskwellError):
    """The caller has no such task."""


class AlreadyExists(TaskwellError):
    """The request_id was used before to create a task with other content."""


class Aborted(TaskwellError):
    """The task has changed since the etag was read: get it again and decide anew."""


class Unauthenticated(TaskwellError):
    """The call names no user, or its token does not verify: `reason` says which."""


class PermissionDenied(TaskwellError):
    """This caller may not call this method."""


class ResourceExhausted(TaskwellError):
    """Too many calls or too long a message. Where waiting helps, `retry_delay` says how long."""


class Unavailable(TaskwellError):
    """The service or its database cannot be reached. What is safe to send again was sent again already.

    After a write with an etag, or a delete, it is not known whether the write was done: get the task and see.
    """


class DeadlineExceeded(TaskwellError):
    """The call was not done in its time. Whether a write was done is not known."""


class Unimplemented(TaskwellError):
    """There is a server, but it has no such method: is the target a Taskwell?"""


class Internal(TaskwellError):
    """A fault of the service; the message has the id under which it was logged."""


_CLASSES: dict[StatusCode, type[TaskwellError]] = {
    StatusCode.INVALID_ARGUMENT: InvalidArgument,
    StatusCode.NOT_FOUND: NotFound,
    StatusCode.ALREADY_EXISTS: AlreadyExists,
    StatusCode.ABORTED: Aborted,
    StatusCode.UNAUTHENTICATED: Unauthenticated,
    StatusCode.PERMISSION_DENIED: PermissionDenied,
    StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    StatusCode.UNAVAILABLE: Unavailable,
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    StatusCode.UNIMPLEMENTED: Unimplemented,
    StatusCode.INTERNAL: Internal,
}


def error_of(error: grpc.RpcError) -> TaskwellError:
    """The exception for a failed call, of grpc or of grpc.aio."""
    code: StatusCode = error.code()
    reason = ""
    violations: tuple[Violation, ...] = ()
    retry_delay: float | None = None
    for detail in _details(error):
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason = info.reason if info.domain == _DOMAIN else reason
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            wrong = error_details_pb2.BadRequest.FromString(detail.value).field_violations
            violations = tuple(Violation(each.field, each.description) for each in wrong)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry_delay = delay.seconds + delay.nanos / 10**9
    return _CLASSES.get(code, TaskwellError)(error.details() or code.name, code, reason, violations, retry_delay)


def _details(error: grpc.RpcError) -> Iterable[AnyMessage]:
    trailers: Any = error.trailing_metadata() or ()  # pairs, of one type in grpc and of another in grpc.aio
    details: Iterable[AnyMessage] = ()
    for key, value in trailers:
        if key == _DETAILS:
            with suppress(DecodeError):  # something on the way made it up
                details = status_pb2.Status.FromString(value).details
    return details
