"""Tasks for the tests of the store, with defaults for fields that a test does not care about."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from service.db.store import SqlTaskStore
from service.model import CONTENT_FIELDS, NewTask, Task, TaskDraft, TaskQuery
from tests.running import new_user

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
"""When the tests' first task was created."""


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def new_task(user_id: str | None = None, **fields: Any) -> NewTask:
    draft = {name: fields.pop(name) for name in CONTENT_FIELDS if name in fields}
    values = {"created_at": START, **fields}
    return NewTask(user_id or new_user(), str(uuid4()), TaskDraft(**{"title": "Buy milk", **draft}), **values)


def requested(user_id: str, request_id: str, digest: str = "a" * 64, **fields: Any) -> NewTask:
    return new_task(user_id, request_id=request_id, request_digest=digest, **fields)


def is_task(outcome: object) -> Task:
    assert isinstance(outcome, Task), outcome
    return outcome


async def one_page(store: SqlTaskStore, query: TaskQuery) -> list[Task]:
    """The page of one query."""
    [page] = await store.page([query])
    return page
