"""The TaskStore on SQL: one statement for a batch, a second one only for requests that the first did not settle."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC
from functools import partial
from itertools import repeat
from operator import attrgetter
from typing import Any

from service.db.compiled_statement import Row
from service.db.engine import Database, ForeignKeyBroken, LockTimeout, OutcomeUnknown
from service.db.rowset import OWNER
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

    With `known_users_only` no task is created for a user without a row in the users table. With `by_owner` each
    statement is for one user, as a distributed database needs it; a batch of several users becomes several statements.
    """

    def __init__(self, database: Database, *, known_users_only: bool = False, by_owner: bool = False) -> None:
        self._database = database
        self._known_users_only = known_users_only
        self._by_owner = by_owner
        self._sql = self._single_sql = Statements(database.dialect, by_owner=by_owner)
        if database.dialect.name == "postgresql":
            self._single_sql = Statements(database.dialect, by_owner=by_owner, single=True)
        self._settle = _by_owner if by_owner else _together

    async def get(self, keys: Sequence[TaskKey]) -> list[Task | RequestError]:
        return await self._settle(self._get, keys)

    async def _get(self, keys: Sequence[TaskKey]) -> list[Task | RequestError]:
        found = await self._find(keys)
        return [found.get(key) or TaskNotFound() for key in keys]

    async def page(self, queries: Sequence[TaskQuery]) -> list[list[Task]]:
        return await self._settle(self._page, queries)

    async def _page(self, queries: Sequence[TaskQuery]) -> list[list[Task]]:
        pages: list[list[Task]] = [[] for _ in queries]
        kinds: dict[PageKind, list[tuple[int, TaskQuery]]] = {}
        for numbered in enumerate(queries):
            kinds.setdefault(PageKind.of(numbered[1]), []).append(numbered)
        for kind, asked in kinds.items():
            sql = self._statements(asked)
            at_once = len(asked) if sql.has_lateral else 1
            for first in range(0, len(asked), at_once):
                parameters = sql.page_parameters(asked[first : first + at_once])
                for number, *columns in await self._database.read(sql.pages(kind), parameters):
                    pages[number].append(_task(columns))
        return pages

    async def create(self, tasks: Sequence[NewTask], *, wait: bool = True) -> list[Task | RequestError | Locked]:
        return await self._settle(partial(_in_rounds, partial(self._create_once, wait=wait)), tasks)

    async def update(self, changes: Sequence[TaskChange], *, wait: bool = True) -> list[Task | RequestError | Locked]:
        return await self._settle(partial(_in_rounds, partial(self._update_once, wait=wait)), changes)

    async def delete(self, removals: Sequence[TaskRemoval], *, wait: bool = True) -> list[RequestError | Locked | None]:
        return await self._settle(partial(_in_rounds, partial(self._delete_once, wait=wait)), removals)

    async def knows(self, user_ids: Sequence[str]) -> list[bool]:
        batches = [[user_id] for user_id in user_ids] if self._by_owner else [user_ids]
        known: set[str] = set()
        for batch in batches:
            sql = self._statements(batch)
            parameters = sql.user_ids.parameters((user_id,) for user_id in batch)
            known.update(user_id for (user_id,) in await self._database.read(sql.find_users, parameters))
        return [user_id in known for user_id in user_ids]

    async def _find(self, keys: Sequence[TaskKey]) -> dict[TaskKey, Task]:
        sql = self._statements(keys)
        return _by_key(await self._database.read(sql.get, sql.keys.parameters(keys)))

    def _statements(self, requests: Sequence[object]) -> Statements:
        """The statements for so many requests."""
        return self._single_sql if len(requests) == 1 else self._sql

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
        if self._by_owner and (left := [task for task in left if task.key not in outcomes]):
            outcomes |= await self._without_user(left)
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
        sql = self._statements(tasks)
        parameters = sql.new_tasks.of(sorted(tasks, key=_create_order))
        if self._known_users_only:
            statements = sql.create if wait else sql.create_unlocked
        else:
            statements = sql.create_with_users if wait else sql.create_with_users_unlocked
        rows = await self._database.write(*statements, parameters=parameters, repeatable=True, waits=wait)
        return {TaskKey(*row) for row in rows}

    async def _without_user(self, tasks: Sequence[NewTask]) -> dict[TaskKey, Task | RequestError]:
        """Refuse the tasks of users without a row, or create the row. Leaves the other tasks to the next round."""
        if not self._known_users_only:
            if self._by_owner:
                first = min(tasks, key=attrgetter("created_at"))
                parameters = {OWNER: first.user_id, "created_at": first.created_at}
                await self._database.write(self._sql.create_user, parameters=parameters, repeatable=True)
            # Otherwise the row was deleted since the statement created it; the next round creates it again.
            return {}
        known = await self.knows([task.user_id for task in tasks])
        return {task.key: CallerUnknown() for task, is_known in zip(tasks, known, strict=True) if not is_known}

    async def _earlier(self, tasks: Sequence[NewTask]) -> dict[TaskKey, Task | RequestError]:
        """Look up the tasks that earlier requests created; no outcome for a task that was deleted meanwhile."""
        sql = self._statements(tasks)
        rows = await self._database.read(sql.find_requests, sql.requests.of(tasks))
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
        sql = self._statements(changes)
        statement = sql.update if wait else sql.update_unlocked
        # Run twice, a change without a version gives the same result; a change with one would meet its own new version.
        versioned = [change for change in changes if change.version is not None]
        parameters = sql.change_parameters(changes)
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
                    outcomes[change.key] = self._locked()
        return outcomes

    async def _delete_once(
        self, removals: Sequence[TaskRemoval], *, wait: bool
    ) -> dict[TaskKey, RequestError | Locked | None]:
        sql = self._statements(removals)
        statement = sql.delete if wait else sql.delete_unlocked
        parameters = sql.removals.of(removals)
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
                    outcomes[removal.key] = self._locked()
        return outcomes

    def _locked(self) -> Locked:
        """The outcome for a row that a statement skipped because another transaction holds its lock."""
        self._database.count_lock()
        return Locked()


async def _together(settle: Callable[[Sequence[Any]], Awaitable[list[Any]]], requests: Sequence[Any]) -> list[Any]:
    """Run `settle` on all requests at once."""
    return await settle(requests)


async def _by_owner(settle: Callable[[Sequence[Any]], Awaitable[list[Any]]], requests: Sequence[Any]) -> list[Any]:
    """Run `settle` on the requests of each user. If it fails, the error is the outcome of this user's requests."""
    by_user: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        by_user.setdefault(request.user_id, []).append(index)
    if len(by_user) == 1:
        return await settle(requests)
    batches = ([requests[index] for index in indexes] for indexes in by_user.values())
    settled = await asyncio.gather(*map(settle, batches), return_exceptions=True)
    outcomes: list[Any] = [None] * len(requests)
    for indexes, each in zip(by_user.values(), settled, strict=True):
        for index, outcome in zip(indexes, repeat(each) if isinstance(each, BaseException) else each, strict=False):
            outcomes[index] = outcome
    return outcomes


async def _in_rounds(settle: Callable[[Sequence[Any]], Any], requests: Sequence[Any]) -> list[Any]:
    """Run `settle` on the requests, and again on those without an outcome, until each has one."""
    outcomes: dict[TaskKey, Any] = {}
    left = requests
    for _ in range(_ROUNDS):
        outcomes |= await settle(left)
        left = [request for request in left if request.key not in outcomes]
        if not left:
            return [outcomes[request.key] for request in requests]
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
