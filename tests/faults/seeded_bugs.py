"""Seeded bugs of the running service: see seeding.py."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from grpc import StatusCode

from service import errors
from service.db import engine, store
from service.errors import DatabaseUnavailable, EtagStale, TaskNotFound
from service.model import Task, TaskDraft, TaskPage, TaskStatus
from service.rpc import call_limits, convert, interceptor, status
from service.server import app
from service.tasks import coalescer, methods, page_tokens
from tests.faults.anomalies import Kind
from tests.faults.fault import POSTGRESQL
from tests.faults.seeding import KILLED, LOST, MOVED, RESTARTED, around, in_sql, later, one_in, shows_as, with_codes


@shows_as(Kind.LOST_WRITE, fault=KILLED)
def acknowledge_create_before_commit() -> None:
    async def create(old: Any, self: Any, tasks: Any, **more: Any) -> Any:
        later(0.05, lambda: old(self, tasks, **more))
        return [store._as_created(task) for task in tasks]

    around(store.SqlTaskStore, "create", create)


@shows_as(Kind.LOST_WRITE)
def acknowledge_update_and_forget_it() -> None:
    async def update(old: Any, self: Any, changes: Any, **more: Any) -> Any:
        if not one_in(20):
            return await old(self, changes, **more)
        found = await self.get([change.key for change in changes])
        return [
            task._replace(**change.values, version=task.version + 1) if isinstance(task, Task) else task
            for task, change in zip(found, changes, strict=True)
        ]

    around(store.SqlTaskStore, "update", update)


@shows_as(Kind.ISOLATION)
def no_user_id_in_get() -> None:
    in_sql("tasks.user_id = keys.user_id AND ", "")

    async def get(_old: Any, self: Any, keys: Any) -> Any:
        found = {key.id: task for key, task in (await self._find(keys)).items()}
        return [found.get(key.id) or TaskNotFound() for key in keys]

    around(store.SqlTaskStore, "get", get)


@shows_as(Kind.ISOLATION)
def no_user_id_in_update() -> None:
    in_sql("tasks.user_id = locked.user_id AND tasks.id", "tasks.id")
    in_sql("tasks.user_id = changes.user_id AND ", "")


@shows_as(Kind.ISOLATION)
def no_user_id_in_list() -> None:
    in_sql("tasks.user_id = :user_id", ":user_id IS NOT NULL")


@shows_as(Kind.DUPLICATE_CREATE)
def request_id_is_not_stored() -> None:
    around(methods.Tasks, "create", lambda old, self, caller, draft, _request_id: old(self, caller, draft, ""))


@shows_as(Kind.DUPLICATE_CREATE)
def create_is_repeated_with_a_new_id() -> None:
    async def create(old: Any, self: Any, tasks: Any, **more: Any) -> Any:
        if one_in(20):
            await old(self, [replace(task, id=self.new_id(), request_id=None, request_digest=None) for task in tasks])
        return await old(self, tasks, **more)

    store.SqlTaskStore.new_id = staticmethod(lambda: str(app.uuid_utils.uuid7()))  # type: ignore[attr-defined]
    around(store.SqlTaskStore, "create", create)


@shows_as(Kind.CONTENT_IGNORED)
def request_content_is_ignored() -> None:
    around(methods, "_content_digest", lambda _old, _draft: "0" * 64)


@shows_as(Kind.ETAG_IGNORED)
def etag_is_ignored_by_update() -> None:
    around(methods.Tasks, "update", lambda old, self, *args, etag, **more: old(self, *args, etag=etag and "", **more))


@shows_as(Kind.ETAG_IGNORED)
def etag_is_ignored_by_delete() -> None:
    around(methods.Tasks, "delete", lambda old, self, *args, etag, **more: old(self, *args, etag=etag and "", **more))


@shows_as(Kind.FALSE_ABORT)
def current_etag_is_aborted() -> None:
    async def update(old: Any, self: Any, *args: Any, etag: str, **more: Any) -> Any:
        if etag and one_in(10):
            raise EtagStale
        return await old(self, *args, etag=etag, **more)

    around(methods.Tasks, "update", update)


@shows_as(Kind.LOST_UPDATE)
def update_writes_back_what_it_read() -> None:
    async def update(old: Any, self: Any, caller: Any, task_id: str, draft: Any, *, paths: Any, etag: str) -> Any:
        read = await self.get(caller, task_id)
        await asyncio.sleep(0.005)
        new = {name: getattr(draft if name in paths else read, name) for name in ("title", "description", "status")}
        return await old(self, caller, task_id, TaskDraft(**new), paths=list(new), etag=etag)

    around(methods.Tasks, "update", update)


@shows_as(Kind.WRONG_RESPONSE, Kind.LOST_UPDATE)
def two_updates_of_a_task_in_one_batch() -> None:
    def init(old: Any, self: Any, *args: Any, key: Any, **more: Any) -> None:
        old(self, *args, key=None if key is methods._key else key, **more)

    around(coalescer.Coalescer, "__init__", init)


@shows_as(Kind.WRONG_RESPONSE)
def response_of_another_call_in_the_batch() -> None:
    async def get(old: Any, self: Any, keys: Any) -> Any:
        return list(reversed(await old(self, keys)))

    around(store.SqlTaskStore, "get", get)


@shows_as(Kind.WRONG_RESPONSE)
def update_returns_the_task_as_it_was() -> None:
    async def update(old: Any, self: Any, changes: Any, **more: Any) -> Any:
        before = await self.get([change.key for change in changes])
        after = await old(self, changes, **more)
        return [was if isinstance(now, Task) else now for was, now in zip(before, after, strict=True)]

    around(store.SqlTaskStore, "update", update)


@shows_as(Kind.TOGGLED)
def complete_toggles() -> None:
    async def complete(_old: Any, self: Any, caller: Any, task_id: str, *, etag: str) -> Any:
        read = await self.get(caller, task_id)
        other = TaskStatus.INCOMPLETE if read.status is TaskStatus.COMPLETE else TaskStatus.COMPLETE
        return await self.update(caller, task_id, TaskDraft(status=other), paths=["status"], etag=etag)

    around(methods.Tasks, "complete", complete)


@shows_as(Kind.UNDELETED)
def delete_is_rolled_back() -> None:
    async def delete(old: Any, self: Any, removals: Any, **more: Any) -> Any:
        return [None] * len(removals) if one_in(5) else await old(self, removals, **more)

    around(store.SqlTaskStore, "delete", delete)


@shows_as(Kind.DELETED_TWICE)
def delete_of_a_missing_task_succeeds() -> None:
    around(
        methods.Tasks,
        "delete",
        lambda old, *args, allow_missing, **more: old(*args, allow_missing=allow_missing or True, **more),
    )


@shows_as(Kind.NO_OP_CHANGED)
def no_op_changes_the_etag() -> None:
    in_sql("IS NOT tasks.status)", "IS NOT tasks.status OR 1)")


@shows_as(Kind.CONFLICTING_STATES, Kind.LOST_UPDATE)
def update_keeps_the_etag() -> None:
    in_sql("(tasks.version + 1)", "(tasks.version + 0)")


@shows_as(Kind.TIME_WENT_BACK)
def update_time_goes_back() -> None:
    in_sql("CASE WHEN (tasks.updated_at < locked.changed_at) THEN locked.changed_at ELSE tasks.updated_at END", "NEW")
    in_sql("NEW", "locked.changed_at")

    def init(old: Any, self: Any, *args: Any, **more: Any) -> None:
        more["clock"] = lambda: datetime.now(UTC) - timedelta(seconds=random.random())
        old(self, *args, **more)

    around(methods.Tasks, "__init__", init)


@shows_as(Kind.DONE_TWICE)
def update_is_applied_again_later() -> None:
    async def update(old: Any, self: Any, changes: Any, **more: Any) -> Any:
        if one_in(5):
            later(0.1, lambda: old(self, changes, **more))
        return await old(self, changes, **more)

    around(store.SqlTaskStore, "update", update)


@shows_as(Kind.REFUSED_BUT_DONE, fault=LOST, database=POSTGRESQL)
def every_write_is_repeated_after_a_lost_connection() -> None:
    around(
        engine.Database,
        "write",
        lambda old, *args, repeatable, **more: old(*args, repeatable=repeatable or True, **more),
    )


@shows_as(Kind.STALE_READ)
def get_answers_from_a_cache() -> None:
    cache: dict[Any, tuple[float, Any]] = {}

    async def get(old: Any, self: Any, keys: Sequence[Any]) -> Any:
        for key in keys:
            if key not in cache or cache[key][0] < time.monotonic() - 0.3:
                [cached] = await old(self, [key])
                cache[key] = time.monotonic(), cached
        return [cache[key][1] for key in keys]

    around(store.SqlTaskStore, "get", get)


@shows_as(Kind.PAGE_REPEATS, Kind.PAGE_GAP)
def pages_by_offset() -> None:
    async def listed(old: Any, self: Any, caller: Any, *, page_size: int, page_token: str, **more: Any) -> Any:
        every = await old(self, caller, page_size=1000, page_token="", **more)
        first = int(page_token or 0)
        token = str(first + page_size) if first + page_size < len(every.tasks) else ""
        return TaskPage(every.tasks[first : first + page_size], token)

    around(methods.Tasks, "list", listed)


@shows_as(Kind.PAGE_GAP)
def last_task_of_a_page_is_dropped() -> None:
    async def listed(old: Any, self: Any, *args: Any, **more: Any) -> Any:
        page = await old(self, *args, **more)
        return replace(page, tasks=page.tasks[:-1]) if page.next_page_token else page

    around(methods.Tasks, "list", listed)


@shows_as(Kind.PAGE_FILTER)
def filter_is_ignored() -> None:
    around(methods.Tasks, "list", lambda old, *args, status, **more: old(*args, status=status * 0, **more))


@shows_as(Kind.PAGE_ORDER)
def order_is_ignored() -> None:
    around(methods.Tasks, "list", lambda old, *args, order_by, **more: old(*args, order_by=order_by and "", **more))


@shows_as(Kind.TOKEN_UNBOUND)
def page_token_is_bound_to_nothing() -> None:
    around(page_tokens, "_binding", lambda *_: b"\0" * page_tokens._DIGEST_BYTES)


@shows_as(Kind.INTERNAL, fault=MOVED)
def database_away_is_internal() -> None:
    with_codes({DatabaseUnavailable: StatusCode.INTERNAL})


@shows_as(Kind.RETRY_INFO, fault=MOVED)
def retry_info_is_missing() -> None:
    status.RETRY_DELAYS = MappingProxyType({errors.Overloaded: 100})


@shows_as(Kind.UNDOCUMENTED, fault=MOVED)
def error_details_are_missing() -> None:
    def bare(_old: Any, error: Any) -> Any:
        return interceptor.grpc_status_of.__wrapped__(error)._replace(trailing_metadata=())  # type: ignore[attr-defined]

    around(interceptor, "grpc_status_of", bare)


@shows_as(Kind.WRONG_STATUS)
def missing_task_is_permission_denied() -> None:
    with_codes({TaskNotFound: StatusCode.PERMISSION_DENIED})


@shows_as(Kind.CANCELLED, fault=RESTARTED)
def calls_are_cancelled_at_shutdown() -> None:
    async def drain(_old: Any, self: Any, **_more: Any) -> None:
        await self._server.stop(0)

    around(app.Service, "drain", drain)


@shows_as(Kind.LATE)
def a_call_outlasts_its_deadline() -> None:
    around(call_limits.CallLimits, "_seconds", lambda *_: 3600.0)

    async def get(old: Any, self: Any, *args: Any) -> Any:
        await asyncio.sleep(8.0 if one_in(400) else 0)
        return await old(self, *args)

    around(methods.Tasks, "get", get)


@shows_as(Kind.STALL)
def the_event_loop_stands_still() -> None:
    async def get(old: Any, self: Any, *args: Any) -> Any:
        if one_in(200):
            time.sleep(3.0)  # noqa: ASYNC251 - that is the bug
        return await old(self, *args)

    around(methods.Tasks, "get", get)


@shows_as(Kind.FAILED_WITHOUT_FAULT)
def calls_fail_now_and_then() -> None:
    async def get(old: Any, self: Any, *args: Any) -> Any:
        if one_in(100):
            raise DatabaseUnavailable
        return await old(self, *args)

    around(methods.Tasks, "get", get)


@shows_as(Kind.SLOW_RECOVERY, fault=MOVED)
def recovery_takes_long() -> None:
    failed = [float("-inf")]

    async def write(old: Any, self: Any, *args: Any, **more: Any) -> Any:
        if time.monotonic() < failed[0] + 6:
            raise DatabaseUnavailable
        try:
            return await old(self, *args, **more)
        except DatabaseUnavailable:
            failed[0] = time.monotonic()
            raise

    around(engine.Database, "write", write)
    around(engine.Database, "read", write)


@shows_as(Kind.MEMORY)
def memory_leaks() -> None:
    leaked: list[bytearray] = []

    def write(old: Any, *args: Any) -> None:
        if one_in(20):
            leaked.append(bytearray(b"x") * 2**20)
        old(*args)

    around(convert, "write", write)
