"""The TaskStore protocol: what the methods need of a store, and what every store promises."""

from collections.abc import Sequence
from typing import Protocol

from service.errors import RequestError
from service.model import NewTask, Task, TaskChange, TaskKey, TaskQuery, TaskRemoval


class Locked(Exception):
    """The outcome of a request for a task that somebody else has locked, where that was not to be waited for."""


class TaskStore(Protocol):
    """Keeps tasks. Every operation takes many and answers one outcome for each, in the order given.

    An outcome is a value or, as a value, the RequestError that this one request fails with, so that one request of a
    set harms no other. What harms them all (DatabaseUnavailable) is raised. Whatever was answered is durable. A set is
    not empty, and the keys of what it writes are distinct. tests/db holds every implementation to these promises.
    """

    async def get(self, keys: Sequence[TaskKey]) -> list[Task | RequestError]:
        """The tasks of these keys. Must answer TaskNotFound for a task of another user, as for a missing one."""

    async def create(self, tasks: Sequence[NewTask]) -> list[Task | RequestError]:
        """Store new tasks, at version 1, incomplete; their users are made with them unless users must be known.

        Where the user has a task with this request_id already: that task as it is now if the digests are equal,
        else RequestIdReused. However many equal requests run at once, one task is made. CallerUnknown for a user
        that must be known and is not.
        """

    async def update(self, changes: Sequence[TaskChange], *, wait: bool = True) -> list[Task | RequestError | Locked]:
        """Apply changes and answer the tasks after them. TaskNotFound, or EtagStale if the version is another.

        The version is compared in the statement that writes. A change to what a task is already leaves it untouched.
        A task is completed at the time of the change that completes it. `updated_at` never goes back.
        A task that somebody else has locked is waited for, or its outcome is Locked.
        """

    async def delete(self, removals: Sequence[TaskRemoval], *, wait: bool = True) -> list[RequestError | Locked | None]:
        """Delete tasks; None for one that is gone by this. TaskNotFound, or EtagStale if the version is another.

        A task that somebody else has locked is waited for, or its outcome is Locked.
        """

    async def page(self, queries: Sequence[TaskQuery]) -> list[list[Task]]:
        """For each the next tasks of its user in the order (created_at, id), descending if newest first, at most
        `limit`. The same user may be asked for several times.
        """

    async def knows(self, user_ids: Sequence[str]) -> list[bool]:
        """Whether each of these users has a row."""
