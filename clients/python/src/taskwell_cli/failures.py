"""The message and the exit status of a failed call."""

from __future__ import annotations

from taskwell_client import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    TaskwellError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

FAILED, WRONG, NOT_FOUND, CONFLICT, FORBIDDEN, LATER = 1, 2, 3, 4, 5, 6

_STATUSES: dict[type[TaskwellError], int] = {
    InvalidArgument: WRONG,
    NotFound: NOT_FOUND,
    AlreadyExists: CONFLICT,
    Aborted: CONFLICT,
    Unauthenticated: FORBIDDEN,
    PermissionDenied: FORBIDDEN,
    Unavailable: LATER,
    ResourceExhausted: LATER,
    DeadlineExceeded: LATER,
}

# The service's own messages speak of metadata; users of the command line have options.
_SENTENCES = {
    "CALLER_MISSING": "this service wants to know who you are: give --user, or set TASKWELL_CLIENT_USER",
    "TOKEN_MISSING": "this service wants a token: set TASKWELL_CLIENT_TOKEN, or give --token",
    "TASK_NOT_FOUND": "there is no such task: 'taskwell task list' shows yours",
}


def exit_status(error: TaskwellError) -> int:
    return _STATUSES.get(type(error), FAILED)


def sentence(error: TaskwellError, target: str, timeout: float) -> str:
    """The message for a failed call, on one line."""
    if not error.reason:
        return _without_service(error, target, timeout)
    return _SENTENCES.get(error.reason, error.message)


def _without_service(error: TaskwellError, target: str, timeout: float) -> str:
    """The message for an error of gRPC itself, for users who do not know gRPC."""
    said = " ".join(error.message.rpartition("last error: ")[2].split())
    if isinstance(error, Unavailable):
        return (
            f"cannot reach a Taskwell at {target}: start one with 'taskwell serve', or say where it is with --target "
            f"or TASKWELL_CLIENT_TARGET, and with --tls or --tls-ca if it has TLS ({said})"
        )
    if isinstance(error, DeadlineExceeded):
        return f"no answer from {target} within {timeout:g} s: try again, or give it longer with --timeout"
    if isinstance(error, Unimplemented):
        return f"what answers at {target} is not a Taskwell: name another --target"
    return f"{target}: {said} ({error.code.name})"
