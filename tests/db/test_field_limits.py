"""Validation, the database's CHECKs and the proto's comments agree on the limits of every field."""

import re
from typing import Any

import pytest

from service.db.driver_errors import StatementFault
from service.db.store import SqlTaskStore
from service.model import TaskDraft, is_user_id
from service.tasks.validation import DESCRIPTION_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, TITLE_MAX
from service.tasks.validation import new_task as violations_of
from tests.db.making import is_task, new_task
from tools.openapi.contract import comments

WIDEST = "\U0001f600"
"""One code point, of four bytes in UTF-8 and two units in UTF-16."""


@pytest.mark.parametrize(("field", "limit"), [("title", TITLE_MAX), ("description", DESCRIPTION_MAX)])
async def test_the_database_has_the_limit_of_validation(store: SqlTaskStore, field: str, limit: int) -> None:
    for length in (limit, limit + 1):
        draft: dict[str, Any] = {"title": "Buy milk", field: WIDEST * length}
        if length == limit:
            assert not [*violations_of(TaskDraft(**draft))]
            [made] = await store.create([new_task(**draft)])
            assert getattr(is_task(made), field) == draft[field]
        else:
            assert [*violations_of(TaskDraft(**draft))]
            with pytest.raises(StatementFault):
                await store.create([new_task(**draft)])


async def test_the_database_refuses_an_empty_title(store: SqlTaskStore) -> None:
    with pytest.raises(StatementFault):
        await store.create([new_task(title="")])


async def test_the_database_has_the_limit_of_user_ids(store: SqlTaskStore) -> None:
    for length, fits in ((255, True), (256, False)):
        task = new_task("x" * length)
        assert is_user_id(task.user_id) is fits
        if fits:
            is_task(*await store.create([task]))
        else:
            with pytest.raises(StatementFault):
                await store.create([task])


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("Task.title", {1, TITLE_MAX}),
        ("Task.description", {0, DESCRIPTION_MAX}),
        ("ListTasksRequest.page_size", {PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX}),
    ],
)
def test_the_comments_of_the_proto_name_the_limits(name: str, limits: set[int]) -> None:
    assert limits <= {int(number) for number in re.findall(r"\d+", comments()[f"taskwell.v1.{name}"])}
