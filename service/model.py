"""The nouns: what a task is, who is calling, and what a caller asks to be done. Plain values that know nothing else."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple, TypeGuard

_USER_ID = re.compile(r"[!-~]{1,255}")


def is_user_id(name: object) -> TypeGuard[str]:
    """True for a user id: 1 to 255 printable ASCII characters without spaces."""
    return isinstance(name, str) and _USER_ID.fullmatch(name) is not None


class TaskStatus(IntEnum):
    """Whether a task is done. The numbers are the contract's and the database's; a test holds them equal."""

    UNSPECIFIED = 0
    INCOMPLETE = 1
    COMPLETE = 2


@dataclass(frozen=True, slots=True)
class Caller:
    """The user on whose behalf an RPC runs. Verified by whoever made it.

    `scopes` are what the caller's token allows, None where nothing limits it.
    """

    user_id: str
    scopes: frozenset[str] | None = None


class TaskKey(NamedTuple):
    """What names one task. No task is ever addressed without its owner."""

    user_id: str
    id: str


class Task(NamedTuple):
    """One task as it is stored. Times are UTC with microseconds; `version` grows by one with every change."""

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
class NewTask:
    """A task to be created. `request_id` and `request_digest` are both there or both None."""

    user_id: str
    id: str
    title: str
    description: str
    created_at: datetime
    request_id: str | None = None
    request_digest: str | None = None

    @property
    def key(self) -> TaskKey:
        return TaskKey(self.user_id, self.id)


@dataclass(frozen=True, slots=True)
class TaskChange:
    """A change to one task. None leaves a field as it is; `version` None means whatever the version is."""

    user_id: str
    id: str
    changed_at: datetime
    title: str | None = None
    description: str | None = None
    status: TaskStatus | None = None
    version: int | None = None

    @property
    def key(self) -> TaskKey:
        return TaskKey(self.user_id, self.id)


@dataclass(frozen=True, slots=True)
class TaskRemoval:
    """A task to be deleted; `version` None means whatever the version is."""

    user_id: str
    id: str
    version: int | None = None

    @property
    def key(self) -> TaskKey:
        return TaskKey(self.user_id, self.id)


class Position(NamedTuple):
    """Where a page ended: the create time and the id of its last task."""

    created_at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """One page of one user's tasks: at most `limit` of them, those after `after` in the direction of the walk."""

    user_id: str
    limit: int
    status: TaskStatus | None = None
    newest_first: bool = True
    after: Position | None = None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of a walk; `next_page_token` is empty on the last one."""

    tasks: Sequence[Task]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class TaskDraft:
    """The writable fields of a task as a caller sent them: not checked yet; absent is empty or 0, as in proto3."""

    title: str = ""
    description: str = ""
    status: int = TaskStatus.UNSPECIFIED
