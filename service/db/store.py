"""The TaskStore on SQL: one statement for a batch, a second one only for requests that the first did not settle."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC
from functools import partial
from typing import Any

from service.db.compiled_statement import Row
from service.db.engine import Database, ForeignKeyBroken, LockTimeout, OutcomeUnknown
from service.db.statements import PageKind, Statements
from service.errors import CallerUnknown, DatabaseUnavailable, EtagStale, RequestError, RequestIdReused, TaskNotFound
from service.model import NewTask, Task, TaskChange, TaskKey, TaskQuery, TaskRemoval, TaskStatus
from service.tasks.store import Locked

# A batch gets another round if its rows were changed between the write and the read that explains why nothing was
# written. Every such round means that another write succeeded; this many in a row do not happen.
_ROUNDS = 10
_STATUSES = tuple(TaskStatus)  # by their numbers: faster than a call of the class


class SqlTaskStore:
    """Stores tasks in SQLite or PostgreSQL, as service.tasks.store.TaskStore promises.

    With `known_users_only` no task is created for a user without a row in the users table.
    """

    def __init__(self, database: Database, *, known_users_only: bool = False) -> None:
        self._database = database
        self._known_users_only = known_users_only
        self._sql = Statements(database.dialect)

    async def get(self, keys: Sequence[TaskKey]) -> list[Task | RequestError]:
        found = await self._find(keys)
        return [found.get(key) or TaskNotFound() for key in keys]

    async def page(self, queries: Sequence[TaskQuery]) -> list[list[Task]]:
        pages: list[list[Task]] = [[] for _ in queries]
        kinds: dict[PageKind, list[tuple[int, TaskQuery]]] = {}
        for numbered in enumerate(queries):
            kinds.setdefault(PageKind.of(numbered[1]), []).append(numbered)
        for kind, asked in kinds.items():
            at_once = len(asked) if self._sql.has_lateral else 1
            for first in range(0, len(asked), at_once):
                parameters = self._sql.page_parameters(asked[first : first + at_once])
                for number, *columns in await self._database.read(self._sql.pages(kind), parameters):
                    pages[number].append(_task(columns))
        return pages

    async def create(self, tasks: Sequence[NewTask], *, wait: bool = True) -> list[Task | RequestError | Locked]:
        outcomes = await _in_rounds(partial(self._create_once, wait=wait), tasks)
        return [outcomes[task.key] for task in tasks]

    async def update(self, changes: Sequence[TaskChange], *, wait: bool = True) -> list[Task | RequestError | Locked]:
        outcomes = await _in_rounds(partial(self._update_once, wait=wait), changes)
        return [outcomes[change.key] for change in changes]

    async def delete(self, removals: Sequence[TaskRemoval], *, wait: bool = True) -> list[RequestError | Locked | None]:
        outcomes = await _in_rounds(partial(self._delete_once, wait=wait), removals)
        return [outcomes[removal.key] for removal in removals]

    async def knows(self, user_ids: Sequence[str]) -> list[bool]:
        parameters = self._sql.user_ids.parameters((user_id,) for user_id in user_ids)
        known = {user_id for (user_id,) in await self._database.read(self._sql.find_users, parameters)}
        return [user_id in known for user_id in user_ids]

    async def _find(self, keys: Sequence[TaskKey]) -> dict[TaskKey, Task]:
        rows = await self._database.read(self._sql.get, self._sql.keys.parameters(keys))
        return _by_key(rows)

    async def _create_once(
        self, tasks: Sequence[NewTask], *, wait: bool
    ) -> dict[TaskKey, Task | RequestError | Locked]:
        try:
            made = await self._insert(tasks, wait=wait)
        except ForeignKeyBroken:
            return {**await self._without_user(tasks)}
        except LockTimeout:
            return await self._create_by_user(tasks)
        outcomes: dict[TaskKey, Task | RequestError | Locked] = {
            task.key: _as_created(task) for task in tasks if task.key in made
        }
        if left := [task for task in tasks if task.key not in made]:
            outcomes |= await self._earlier(left)
        return outcomes

    async def _create_by_user(self, tasks: Sequence[NewTask]) -> dict[TaskKey, Task | RequestError | Locked]:
        """Create the tasks of each user in a statement of its own, after a lock was not granted in time."""
        by_user: dict[str, list[NewTask]] = {}
        for task in tasks:
            by_user.setdefault(task.user_id, []).append(task)
        if len(by_user) == 1:
            return {task.key: Locked() for task in tasks}
        settled = await asyncio.gather(*(self._create_once(each, wait=False) for each in by_user.values()))
        return {key: outcome for outcomes in settled for key, outcome in outcomes.items()}

    async def _insert(self, tasks: Sequence[NewTask], *, wait: bool) -> set[TaskKey]:
        """Insert the tasks that are new and return their keys. Existing tasks are left alone."""
        parameters = self._sql.new_tasks.of(sorted(tasks, key=_create_order))
        sql = self._sql
        if self._known_users_only:
            statements = sql.create if wait else sql.create_unlocked
        else:
            statements = sql.create_with_users if wait else sql.create_with_users_unlocked
        rows = await self._database.write(*statements, parameters=parameters, repeatable=True, waits=wait)
        return {TaskKey(*row) for row in rows}

    async def _without_user(self, tasks: Sequence[NewTask]) -> dict[TaskKey, Task | RequestError]:
        """Refuse the tasks of users without a row, and leave the others of the batch to the next round."""
        if not self._known_users_only:
            return {}  # the row was deleted since the statement created it; the next round creates it again
        known = await self.knows([task.user_id for task in tasks])
        return {task.key: CallerUnknown() for task, is_known in zip(tasks, known, strict=True) if not is_known}

    async def _earlier(self, tasks: Sequence[NewTask]) -> dict[TaskKey, Task | RequestError]:
        """Look up the tasks that earlier requests created; no outcome for a task that was deleted meanwhile."""
        parameters = self._sql.requests.of(tasks)
        rows = await self._database.read(self._sql.find_requests, parameters)
        found = [(_task(columns), request_id, digest) for *columns, request_id, digest in rows]
        by_id = {each[0].key: each for each in found}
        by_request = {
            (task.user_id, request_id): (task, request_id, digest) for task, request_id, digest in found if request_id
        }
        outcomes: dict[TaskKey, Task | RequestError] = {}
        for task in tasks:
            if earlier := by_id.get(task.key) or by_request.get((task.user_id, task.request_id)):
                made, _, digest = earlier
                outcomes[task.key] = made if digest == task.request_digest else RequestIdReused()
        return outcomes

    async def _update_once(
        self, changes: Sequence[TaskChange], *, wait: bool
    ) -> dict[TaskKey, Task | RequestError | Locked]:
        statement = self._sql.update if wait else self._sql.update_unlocked
        # Run twice, a change without a version gives the same result; a change with one would meet its own new version.
        versioned = [change for change in changes if change.version is not None]
        parameters = self._sql.change_parameters(changes)
        try:
            rows = await self._database.write(statement, parameters=parameters, repeatable=not versioned)
        except OutcomeUnknown as error:
            unavailable = DatabaseUnavailable()
            unavailable.__cause__ = error.__cause__
            return dict.fromkeys((change.key for change in versioned), unavailable)  # the next round repeats the others
        outcomes: dict[TaskKey, Task | RequestError | Locked] = {**_by_key(rows)}
        if left := [change for change in changes if change.key not in outcomes]:
            current = await self._find([change.key for change in left])
            for change in left:
                task = current.get(change.key)
                if task is None:
                    outcomes[change.key] = TaskNotFound()
                elif change.version not in (None, task.version):
                    outcomes[change.key] = EtagStale()
                elif _is_already(task, change):
                    outcomes[change.key] = task
                elif not wait:
                    outcomes[change.key] = Locked()
        return outcomes

    async def _delete_once(
        self, removals: Sequence[TaskRemoval], *, wait: bool
    ) -> dict[TaskKey, RequestError | Locked | None]:
        statement = self._sql.delete if wait else self._sql.delete_unlocked
        parameters = self._sql.removals.of(removals)
        try:
            rows = await self._database.write(statement, parameters=parameters, repeatable=False)
        except OutcomeUnknown as error:
            raise DatabaseUnavailable from error.__cause__
        outcomes: dict[TaskKey, RequestError | Locked | None] = dict.fromkeys(TaskKey(*row) for row in rows)
        if left := [removal for removal in removals if removal.key not in outcomes]:
            # Where locks were waited for, what has no version to compare is not deleted only if it is not there.
            doubtful = [removal.key for removal in left if not wait or removal.version is not None]
            current = await self._find(doubtful) if doubtful else {}
            for removal in left:
                task = current.get(removal.key)
                if task is None:
                    outcomes[removal.key] = TaskNotFound()
                elif removal.version not in (None, task.version):
                    outcomes[removal.key] = EtagStale()
                elif not wait:
                    outcomes[removal.key] = Locked()
        return outcomes


async def _in_rounds(settle: Callable[[Sequence[Any]], Any], requests: Sequence[Any]) -> dict[TaskKey, Any]:
    """Run `settle` on the requests, and again on those without an outcome, until each has one."""
    outcomes: dict[TaskKey, Any] = {}
    left = requests
    for _ in range(_ROUNDS):
        outcomes |= await settle(left)
        left = [request for request in left if request.key not in outcomes]
        if not left:
            return outcomes
    raise DatabaseUnavailable


def _create_order(task: NewTask) -> tuple[str, str]:
    """Sort key for inserts: with one order of unique keys everywhere, two batches of equal requests cannot deadlock.

    Equal requests within a batch keep the order of their arrival.
    """
    return task.user_id, task.request_id or ""


def _task(row: Row) -> Task:
    user_id, task_id, title, description, status, version, created_at, updated_at, completed_at = row
    return Task(
        user_id,
        task_id,
        title,
        description,
        _STATUSES[status],
        version,
        created_at.replace(tzinfo=UTC),
        updated_at.replace(tzinfo=UTC),
        completed_at and completed_at.replace(tzinfo=UTC),
    )


def _by_key(rows: Iterable[Row]) -> dict[TaskKey, Task]:
    return {task.key: task for task in map(_task, rows)}


def _as_created(task: NewTask) -> Task:
    return Task(
        user_id=task.user_id,
        id=task.id,
        title=task.draft.title,
        description=task.draft.description,
        status=TaskStatus.INCOMPLETE,
        version=1,
        created_at=task.created_at,
        updated_at=task.created_at,
        completed_at=None,
    )


def _is_already(task: Task, change: TaskChange) -> bool:
    return all(getattr(task, name) == value for name, value in change.values.items())
