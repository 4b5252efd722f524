"""The meaning of calls: states in responses, what writes change, and whether writes may have happened."""

from typing import NamedTuple

from taskwell.v1 import tasks_pb2

from tests.faults.history import CLIENT, Call

COMPLETE = tasks_pb2.TASK_STATUS_COMPLETE
_UNKNOWN = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL", "UNKNOWN"})
"""Codes that leave open whether a write happened."""
_REFUSED_BEFORE = frozenset({"SHUTTING_DOWN", "OVERLOADED", "RATE_LIMITED"})
"""Reasons of calls that were refused before they did anything."""


class Content(NamedTuple):
    """What callers write."""

    title: str
    description: str
    status: int


class State(NamedTuple):
    """A task at one version, in nanoseconds where it has times."""

    version: int
    content: Content
    created: int
    updated: int
    completed: int


def state_of(task: tasks_pb2.Task) -> State:
    """The state that a response shows. The checker knows what callers must not: an etag is a version in hexadecimal."""
    created, updated, completed = task.create_time, task.update_time, task.complete_time
    return State(
        version_of(task.etag),
        Content(task.title, task.description, task.status),
        created.seconds * 10**9 + created.nanos,
        updated.seconds * 10**9 + updated.nanos,
        completed.seconds * 10**9 + completed.nanos,
    )


def version_of(etag: str) -> int:
    """The version of an etag; 0 without one."""
    return int(etag, 16) if etag else 0


def etag_in(call: Call) -> int:
    """The version that a write asks for; 0 for any."""
    return version_of(call.request.task.etag if call.method == "UpdateTask" else call.request.etag)


def may_have_happened(call: Call) -> bool:
    """True for a write that was acknowledged, or whose outcome is unknown."""
    if call.code == "OK":
        return True
    if is_repeated(call):
        return call.code in _UNKNOWN or call.code in {"NOT_FOUND", "RESOURCE_EXHAUSTED"}
    return call.code in _UNKNOWN and call.reason not in _REFUSED_BEFORE


def is_repeated(call: Call) -> bool:
    """True for a write that our client may have sent more than once: where that is harmless it retries."""
    return call.client == CLIENT and call.method in {"UpdateTask", "CompleteTask"} and not etag_in(call)


def changed(content: Content, call: Call) -> Content:
    """The content of a task after a write."""
    if call.method == "CompleteTask":
        return content._replace(status=COMPLETE)
    task = call.request.task
    return content._replace(**{name: getattr(task, name) for name in call.request.update_mask.paths})


def changes_status(call: Call) -> bool:
    """True for a write that may change the status."""
    return call.method == "CompleteTask" or "status" in call.request.update_mask.paths
