"""Exceptions for failed calls, one for each gRPC status, with the details of the error as attributes.

try:
    client.complete(task.id, etag=task.etag)
except taskwell_client.Aborted:
    task = client.get(task.id)  # changed by somebody else: read it again, then decide
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
_CALL_ID = "x-request-id"
_DOMAIN = "taskwell.v1"


class Violation(NamedTuple):
    """One invalid field of a request."""

    field: str
    """The path of the field: `task.title`."""
    description: str
    """The rule that the value breaks."""


class TaskwellError(Exception):
    """A call failed. `str(error)` is the message; `error.__cause__` is the error of grpc."""

    def __init__(
        self,
        message: str,
        code: StatusCode = StatusCode.UNKNOWN,
        reason: str = "",
        violations: tuple[Violation, ...] = (),
        retry_delay: float | None = None,
        call_id: str = "",
    ) -> None:
        super().__init__(message, code, reason, violations, retry_delay, call_id)
        self.message = message
        """The service's sentence, which says what to do; gRPC's own text if the service did not answer."""
        self.code = code
        self.reason = reason
        """The service's stable name for the error, like `ETAG_STALE`; empty if the service did not answer."""
        self.violations = violations
        """The invalid fields, of an INVALID_ARGUMENT."""
        self.retry_delay = retry_delay
        """The time (s) after which the same call may succeed; None if the service names none."""
        self.call_id = call_id
        """The id (`x-request-id`) that the service's log has for the call; empty if the service did not answer."""

    def __str__(self) -> str:
        return self.message


class InvalidArgument(TaskwellError, ValueError):
    """The request is invalid: `violations` names the fields. Also raised for an invalid page token.

    The client itself raises it, before a call, for an argument that is invalid in every call: `violations` then names
    the argument.
    """


class NotFound(TaskwellError):
    """The caller has no such task."""


class AlreadyExists(TaskwellError):
    """The request_id was used before to create a task with other content."""


class Aborted(TaskwellError):
    """The task has changed since the etag was read: read it again, then decide."""


class Unauthenticated(TaskwellError):
    """The call names no user, or its token does not verify: `reason` says which."""


class PermissionDenied(TaskwellError):
    """This caller may not call this method."""


class ResourceExhausted(TaskwellError):
    """Too many calls until the timeout of this one, or a message that is too large.

    `retry_delay` is set if waiting helps: the call was repeated within its timeout.
    """


class Unavailable(TaskwellError):
    """The service or its database cannot be reached. Calls that are safe to retry have been retried already.

    A write with an etag, or a delete, may or may not have happened: read the task to find out.
    """


class DeadlineExceeded(TaskwellError):
    """The call took longer than its timeout. A write may or may not have happened."""


class Unimplemented(TaskwellError):
    """The server has no such method: is the target a Taskwell?"""


class ClientUnusable(TaskwellError):
    """The client is closed, or belongs to another process or event loop: make a new one. Nothing was sent.

    Also raised for calls in flight when the client was closed, which may or may not have happened.
    """


class Internal(TaskwellError):
    """A fault of the service; the message has the id under which the service logged it."""


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
    """Translate an error of grpc or grpc.aio."""
    code: StatusCode = error.code()
    reason = ""
    violations: tuple[Violation, ...] = ()
    retry_delay: float | None = None
    trailers: Any = error.trailing_metadata() or ()  # pairs, of one type in grpc and of another in grpc.aio
    call_id = next((value for key, value in trailers if key == _CALL_ID), "")
    for detail in _details(trailers):
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason = info.reason if info.domain == _DOMAIN else reason
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            wrong = error_details_pb2.BadRequest.FromString(detail.value).field_violations
            violations = tuple(Violation(each.field, each.description) for each in wrong)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry_delay = delay.seconds + delay.nanos / 10**9
    message = error.details() or code.name
    return _CLASSES.get(code, TaskwellError)(message, code, reason, violations, retry_delay, call_id)


def _details(trailers: Iterable[tuple[str, Any]]) -> Iterable[AnyMessage]:
    details: Iterable[AnyMessage] = ()
    for key, value in trailers:
        if key == _DETAILS:
            with suppress(DecodeError):  # not the service's: a proxy wrote it
                details = status_pb2.Status.FromString(value).details
    return details
