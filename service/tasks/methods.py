"""The task operations, one method for each RPC. Knows nothing of gRPC or SQL."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from service.errors import CallerUnknown, InvalidArgument, TaskNotFound, Violation
from service.model import (
    CONTENT_FIELDS,
    WRITABLE_FIELDS,
    Caller,
    NewTask,
    Position,
    Task,
    TaskChange,
    TaskDraft,
    TaskKey,
    TaskPage,
    TaskQuery,
    TaskRemoval,
    TaskStatus,
)
from service.tasks import validation
from service.tasks.batches import BatchObserver, BatchSettings, Direct, Operation, begin_batch
from service.tasks.coalescer import Coalescer
from service.tasks.etags import version_of
from service.tasks.page_tokens import page_token_of, position_of
from service.tasks.store import TaskStore

T = TypeVar("T")
Q = TypeVar("Q", bound=TaskKey | TaskQuery | NewTask | TaskChange | TaskRemoval)
R = TypeVar("R")

# Pages of at most this many tasks are read in batches of at most this many pages: longer ones would delay other calls,
# and such a batch already takes up to 40 MiB.
_SMALL_PAGE, _PAGES_AT_ONCE = 64, 32

# Most calls that wait at once for tasks locked by other transactions, each on its own database connection.
_LOCKED_AT_ONCE = 3

_ALL_WRITABLE = f"{', '.join(WRITABLE_FIELDS[:-1])} and {WRITABLE_FIELDS[-1]}"


class Tasks:
    """The operations on tasks. They raise RequestErrors, all of which are in errors.py.

    `clock` returns the current time in UTC, `new_id` a new UUIDv7. With `known_users_only` every method refuses callers
    without a row in the users table. `on_batch` is called for every batch that goes to the store, with the operation
    and how long each call has waited (s). With
    `by_owner` a batch has calls of one user, as a store on a distributed database needs it.
    """

    def __init__(
        self,
        store: TaskStore,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        known_users_only: bool = False,
        batching: BatchSettings | None = None,
        by_owner: bool = False,
        coalesce: bool = True,
        on_batch: BatchObserver | None = None,
    ) -> None:
        def coalesced(
            name: str,
            operation: Operation[Q, R],
            key: Callable[[Q], TaskKey] | None = None,
            patient: Operation[Q, R] | None = None,
            how: BatchSettings | None = batching,
        ) -> Coalescer[Q, R] | Direct[Q, R]:
            if not coalesce:
                return Direct(patient or operation, name, on_batch)
            return Coalescer(
                operation,
                owner=_user_id,
                by_owner=by_owner,
                key=key,
                patient=patient,
                turns=turns,
                batching=how,
                name=name,
                on_batch=on_batch,
            )

        turns = asyncio.Semaphore(_LOCKED_AT_ONCE)

        self._store = store
        self._get = coalesced("get", store.get)
        self._page = coalesced("list", store.page, how=replace(batching or BatchSettings(), max_batch=_PAGES_AT_ONCE))
        self._create = coalesced("create", partial(store.create, wait=False), patient=store.create)
        # Complete uses this batching too, so that calls for one task run in the order of arrival.
        self._update = coalesced("update", partial(store.update, wait=False), _key, store.update)
        self._delete = coalesced("delete", partial(store.delete, wait=False), _key, store.delete)
        self._coalescers = (self._get, self._page, self._create, self._update, self._delete)
        self._clock = clock
        self._new_id = new_id
        self._known_users_only = known_users_only

    async def create(self, caller: Caller, draft: TaskDraft, request_id: str) -> Task:
        validation.refuse([*validation.new_task(draft), *validation.request_id("request_id", request_id)])
        task = NewTask(
            user_id=caller.user_id,
            id=self._new_id(),
            draft=draft,
            created_at=self._clock(),
            request_id=request_id.lower() or None,
            request_digest=_content_digest(draft) if request_id else None,
        )
        return await self._create.submit(task)

    async def get(self, caller: Caller, task_id: str) -> Task:
        validation.refuse(validation.task_id("id", task_id))
        return await self._or_caller_unknown(caller, self._get.submit(TaskKey(caller.user_id, task_id.lower())))

    async def list(self, caller: Caller, *, page_size: int, page_token: str, status: int, order_by: str) -> TaskPage:
        validation.refuse(
            [
                *validation.page_size("page_size", page_size),
                *validation.status("status", status),
                *validation.order_by("order_by", order_by),
            ]
        )
        size = min(page_size, validation.PAGE_SIZE_MAX) or validation.PAGE_SIZE_DEFAULT
        query = TaskQuery(
            user_id=caller.user_id,
            limit=size + 1,  # one more than the page holds tells whether there is another
            status=TaskStatus(status) or None,
            newest_first=order_by.split() != ["create_time"],
        )
        if page_token:
            query = _continue(query, page_token)
        tasks = await self._read(query)
        if not tasks:
            await self._refuse_unknown_caller(caller)
        page = tasks[: min(size, validation.fitting(tasks))]
        if len(page) == len(tasks):
            return TaskPage(page, "")
        return TaskPage(page, page_token_of(query, Position(page[-1].created_at, page[-1].id)))

    async def _read(self, query: TaskQuery) -> Sequence[Task]:
        """Read the tasks of a page and one more. Reads long tasks in chunks, and no more of them than fill a page."""
        tasks: list[Task] = []
        while (missing := query.limit - len(tasks)) > 0 and validation.fitting(tasks) == len(tasks):
            chunk = await self._chunk(replace(query, limit=min(missing, validation.PAGE_CHUNK)))
            tasks += chunk
            if len(chunk) < validation.PAGE_CHUNK:
                break
            query = replace(query, after=Position(chunk[-1].created_at, chunk[-1].id))
        return tasks

    async def _chunk(self, query: TaskQuery) -> Sequence[Task]:
        if query.limit <= _SMALL_PAGE:
            return await self._page.submit(query)
        begin_batch("list")
        [tasks] = await self._store.page([query])
        return tasks

    async def update(self, caller: Caller, task_id: str, draft: TaskDraft, *, paths: Sequence[str], etag: str) -> Task:
        validation.refuse([*validation.task_id("task.id", task_id), *validation.update_mask("update_mask", paths)])
        written = _written_fields(draft, paths)
        validation.refuse(validation.written_fields(draft, written))
        change = TaskChange(
            user_id=caller.user_id,
            id=task_id.lower(),
            changed_at=self._clock(),
            values={name: getattr(draft, name) for name in written},
            version=version_of(etag),
        )
        return await self._or_caller_unknown(caller, self._update.submit(change))

    async def complete(self, caller: Caller, task_id: str, *, etag: str) -> Task:
        validation.refuse(validation.task_id("id", task_id))
        change = TaskChange(
            user_id=caller.user_id,
            id=task_id.lower(),
            changed_at=self._clock(),
            values={"status": TaskStatus.COMPLETE},
            version=version_of(etag),
        )
        return await self._or_caller_unknown(caller, self._update.submit(change))

    async def delete(self, caller: Caller, task_id: str, *, etag: str, allow_missing: bool) -> None:
        validation.refuse(validation.task_id("id", task_id))
        removal = TaskRemoval(caller.user_id, task_id.lower(), version_of(etag))
        try:
            await self._or_caller_unknown(caller, self._delete.submit(removal))
        except TaskNotFound:
            if not allow_missing:
                raise

    async def drain(self) -> None:
        """Return when no call waits or is in flight."""
        for coalescer in self._coalescers:
            await coalescer.drain()

    def waiting(self) -> int:
        """Number of calls that wait to be sent to the store."""
        return sum(coalescer.waiting for coalescer in self._coalescers)

    async def _or_caller_unknown(self, caller: Caller, result: Awaitable[T]) -> T:
        """The result of a call. Raises CallerUnknown instead of TaskNotFound if the caller has no row but needs one."""
        try:
            return await result
        except TaskNotFound:
            await self._refuse_unknown_caller(caller)
            raise

    async def _refuse_unknown_caller(self, caller: Caller) -> None:
        # A user with a task has a row, so the users table is read only if no task was found.
        if self._known_users_only:
            [known] = await self._store.knows([caller.user_id])
            if not known:
                raise CallerUnknown


def _user_id(request: TaskKey | TaskQuery | NewTask | TaskChange | TaskRemoval) -> str:
    return request.user_id


def _key(request: TaskChange | TaskRemoval) -> TaskKey:
    return request.key


def _continue(query: TaskQuery, page_token: str) -> TaskQuery:
    try:
        after = position_of(query, page_token)
    except ValueError as cause:
        raise InvalidArgument(
            Violation(
                "page_token",
                "is not a token of this list: send the next_page_token of the page before with the same caller, "
                "status and order_by, or leave it out to start again",
            )
        ) from cause
    return replace(query, after=after)


def _written_fields(draft: TaskDraft, paths: Sequence[str]) -> frozenset[str]:
    """The fields that an update writes (AIP-134)."""
    populated = frozenset(field for field in WRITABLE_FIELDS if getattr(draft, field))
    named = frozenset(paths).intersection(WRITABLE_FIELDS)
    if "status" in named - populated:
        raise InvalidArgument(
            Violation("task.status", "is named in update_mask: give TASK_STATUS_INCOMPLETE or TASK_STATUS_COMPLETE")
        )
    if "*" in paths:
        return populated.union(CONTENT_FIELDS)
    if paths:
        return named
    if not populated:
        raise InvalidArgument(
            Violation("update_mask", f"is empty and so are {_ALL_WRITABLE}: set what is to be changed")
        )
    return populated


def _content_digest(draft: TaskDraft) -> str:
    """A digest of the fields that must be equal in two creates with one request_id.

    It is stored, and compared by other versions of the service. So title and description have the format that they had
    first, and a field that was added later changes nothing while it is empty. (No text contains U+0000.)
    """
    title = draft.title.encode()
    content = b"%d:%b%b" % (len(title), title, draft.description.encode())
    later_fields = (name for name in CONTENT_FIELDS if name not in {"title", "description"})
    if later := {name: value for name in later_fields if (value := getattr(draft, name))}:
        content += b"\0" + json.dumps(later, sort_keys=True, default=datetime.isoformat).encode()
    return hashlib.sha256(content).hexdigest()
