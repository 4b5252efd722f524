"""The TaskStore protocol: the operations that the methods use, and the promises of every store."""

from collections.abc import Sequence
from typing import Protocol

from service.errors import RequestError
from service.model import NewTask, Task, TaskChange, TaskKey, TaskQuery, TaskRemoval


class Locked(Exception):
    """The outcome of a request that must wait for a lock of another transaction, if it was not to wait."""


class TaskStore(Protocol):
    """Stores tasks. Every operation takes a batch of requests and returns one outcome for each, in the same order.

    An outcome is a value, or the RequestError with which this one request fails, so that a request fails alone. An
    error of the whole batch (DatabaseUnavailable) is raised. What an outcome says is durable. A batch is not empty, and
    the keys that it writes are distinct. tests/db tests every implementation for these promises.
    """

    async def get(self, keys: Sequence[TaskKey]) -> list[Task | RequestError]:
        """Read the tasks with these keys. TaskNotFound for a task of another user, as for a missing task."""

    async def create(self, tasks: Sequence[NewTask], *, wait: bool = True) -> list[Task | RequestError | Locked]:
        """Create tasks, at version 1, incomplete. Creates their users too, unless users must be known.

        If the user already has a task with the request_id: that task as it is now if the digests are equal, else
        RequestIdReused. However many equal requests run at once, one task is created. CallerUnknown for a user that
        must be known and is not. Waits while another transaction has locked the user or creates a task with the same
        request_id; or the outcome is Locked.
        """

    async def update(self, changes: Sequence[TaskChange], *, wait: bool = True) -> list[Task | RequestError | Locked]:
        """Apply changes and return the changed tasks. TaskNotFound, or EtagStale if the version differs.

        The version is compared in the statement that writes. A change that changes nothing leaves a task untouched.
        A task is completed at the time of the change that completes it. `updated_at` never goes back.
        With `wait` a locked task is waited for; without, its outcome is Locked.
        """

    async def delete(self, removals: Sequence[TaskRemoval], *, wait: bool = True) -> list[RequestError | Locked | None]:
        """Delete tasks. The outcome is None, TaskNotFound, or EtagStale if the version differs.

        With `wait` a locked task is waited for; without, its outcome is Locked.
        """

    async def page(self, queries: Sequence[TaskQuery]) -> list[list[Task]]:
        """For each query, at most `limit` tasks of its user in the order (created_at, id), descending if newest first.

        Several queries may be for the same user.
        """

    async def knows(self, user_ids: Sequence[str]) -> list[bool]:
        """True for each user that has a row."""
