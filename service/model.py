"""The model: tasks, callers, and requests of callers to the store. Plain values that import nothing of ours."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple, TypeGuard

_USER_ID = re.compile(r"[!-~]{1,255}")


def is_user_id(name: object) -> TypeGuard[str]:
    """True for a user id: 1 to 255 printable ASCII characters without spaces."""
    return isinstance(name, str) and _USER_ID.fullmatch(name) is not None


class TaskStatus(IntEnum):
    """Status of a task. The proto and the database use the same numbers; a test holds them equal."""

    UNSPECIFIED = 0
    INCOMPLETE = 1
    COMPLETE = 2


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated user on whose behalf a call runs.

    `scopes` are the scopes of the caller's token; None if scopes are not checked.
    """

    user_id: str
    scopes: frozenset[str] | None = None


class TaskKey(NamedTuple):
    """Key of a task. A task is never addressed without its owner."""

    user_id: str
    id: str


class Task(NamedTuple):
    """A stored task. Times are UTC with microseconds; each change increments `version`."""

    user_id: str
    id: str
    title: str
    description: str
    status: TaskStatus
    version: int
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None

    @property
    def key(self) -> TaskKey:
        return TaskKey(self.user_id, self.id)


@dataclass(frozen=True, slots=True)
class TaskDraft:
    """The fields of a task that a caller writes, as sent: not validated; empty, 0 or None where absent.

    A field has the same name in the proto, here, in Task and in the table.
    """

    title: str = ""
    description: str = ""
    status: int = TaskStatus.UNSPECIFIED


WRITABLE_FIELDS = tuple(field.name for field in fields(TaskDraft))
CONTENT_FIELDS = tuple(name for name in WRITABLE_FIELDS if name != "status")
"""The writable fields but the status: a new task does not choose its status, and a full replacement keeps it."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to create, incomplete whatever its draft says. `request_id` and `request_digest` go together."""

    user_id: str
    id: str
    draft: TaskDraft
    created_at: datetime
    request_id: str | None = None
    request_digest: str | None = None

    @property
    def key(self) -> TaskKey:
        return TaskKey(self.user_id, self.id)


@dataclass(frozen=True, slots=True)
class TaskChange:
    """A change to one task: the writable fields in `values` get these values, the others stay as they are.

    None clears a field that may be null. `version` is the version that the task must have, None for any.
    """

    user_id: str
    id: str
    changed_at: datetime
    values: Mapping[str, Any]
    version: int | None = None

    @property
    def key(self) -> TaskKey:
        return TaskKey(self.user_id, self.id)


@dataclass(frozen=True, slots=True)
class TaskRemoval:
    """A task to delete. `version` is the version that the task must have, None for any."""

    user_id: str
    id: str
    version: int | None = None

    @property
    def key(self) -> TaskKey:
        return TaskKey(self.user_id, self.id)


class Position(NamedTuple):
    """Position in a list: the create time and the id of the last task of a page."""

    created_at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """A request for a page of one user's tasks: at most `limit` tasks after the position `after`, in list order."""

    user_id: str
    limit: int
    status: TaskStatus | None = None
    newest_first: bool = True
    after: Position | None = None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of a list. `next_page_token` is empty on the last page."""

    tasks: Sequence[Task]
    next_page_token: str
