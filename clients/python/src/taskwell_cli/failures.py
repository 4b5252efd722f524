"""The message and the exit status of a failed call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskwell_client import TaskwellError

FAILED, WRONG, NOT_FOUND, CONFLICT, FORBIDDEN, LATER, UNWRITTEN, INTERRUPTED = 1, 2, 3, 4, 5, 6, 7, 130

_STATUSES = {
    "INVALID_ARGUMENT": WRONG,
    "NOT_FOUND": NOT_FOUND,
    "ALREADY_EXISTS": CONFLICT,
    "ABORTED": CONFLICT,
    "UNAUTHENTICATED": FORBIDDEN,
    "PERMISSION_DENIED": FORBIDDEN,
    "UNAVAILABLE": LATER,
    "DEADLINE_EXCEEDED": LATER,
    "CANCELLED": LATER,
}
"""Exit statuses by the status codes of gRPC."""

# The service's own messages speak of metadata; users of the command line have options.
_SENTENCES = {
    "CALLER_MISSING": "this service wants to know who you are: give --user, or set TASKWELL_CLIENT_USER",
    "TOKEN_MISSING": "this service wants a token: set TASKWELL_CLIENT_TOKEN, or give --token",
    "TASK_NOT_FOUND": "there is no such task: 'taskwell task list' shows yours",
}


class CommandFailed(Exception):
    """A command ends with a message and an exit status."""

    def __init__(self, sentence: str, status: int, more: tuple[str, ...] = ()) -> None:
        super().__init__(sentence, status, more)
        self.sentence = sentence
        self.status = status
        self.more = more
        """Further lines."""


def exit_status(error: TaskwellError) -> int:
    """The exit status for a failed call."""
    if error.code.name == "RESOURCE_EXHAUSTED":
        return WRONG if error.retry_delay is None else LATER  # a message that is too large stays too large
    return _STATUSES.get(error.code.name, FAILED)


def sentence(error: TaskwellError, target: str, timeout: float) -> str:
    """The message for a failed call."""
    if error.code.name == "INVALID_ARGUMENT":
        return error.message
    if not error.reason:
        return _without_service(error, target, timeout)
    return _SENTENCES.get(error.reason, error.message)


def _without_service(error: TaskwellError, target: str, timeout: float) -> str:
    """The message for an error of gRPC itself, for users who do not know gRPC."""
    said = " ".join(error.message.rpartition("last error: ")[2].split())
    if error.code.name == "UNAVAILABLE":
        return (
            f"cannot reach a Taskwell at {target}: start one with 'taskwell serve', or say where it is with --target "
            f"or TASKWELL_CLIENT_TARGET, and with --tls or --tls-ca if it has TLS ({said})"
        )
    if error.code.name == "DEADLINE_EXCEEDED":
        return f"no answer from {target} within {timeout:g} s: try again, or give it longer with --timeout"
    if error.code.name == "UNIMPLEMENTED":
        return f"what answers at {target} is not a Taskwell: name another --target"
    return f"{target}: {said} ({error.code.name})"
