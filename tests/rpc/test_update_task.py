"""UpdateTask through a real server and the generated client."""

from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from taskwell.v1 import tasks_pb2

from tests.rpc.given import ALIEN_ETAGS, MALFORMED_IDS
from tests.running import COMPLETE, INCOMPLETE, Api, refused

OUTPUT_ONLY_PATHS = (
    "id",
    "etag",
    "create_time",
    "create_time.seconds",
    "create_time.nanos",
    "update_time",
    "update_time.seconds",
    "update_time.nanos",
    "complete_time",
    "complete_time.seconds",
    "complete_time.nanos",
)
UNKNOWN_PATHS = (
    "",
    " ",
    "owner",
    "user_id",
    "version",
    "Title",
    " title",
    "title ",
    "title\0",
    "title,description",
    "title.text",
    "status.value",
    "task.title",
    "createTime",
    "create_time.",
    "create_time.hours",
    "etag.x",
    "**",
    "*.title",
    "😀",
)


def written(task: tasks_pb2.Task) -> tuple[str, str, int]:
    """The fields that an update may write."""
    return task.title, task.description, task.status


# What is written: no mask


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"title": "Buy oat milk"}, ("Buy oat milk", "Two litres", INCOMPLETE)),
        ({"description": "Three litres"}, ("Buy milk", "Three litres", INCOMPLETE)),
        ({"status": COMPLETE}, ("Buy milk", "Two litres", COMPLETE)),
        ({"title": "Sow oats", "description": "Wide"}, ("Sow oats", "Wide", INCOMPLETE)),
        ({"title": "Sow oats", "description": "Wide", "status": COMPLETE}, ("Sow oats", "Wide", COMPLETE)),
    ],
)
@pytest.mark.parametrize("mask", [None, []])
def test_without_a_mask_the_populated_fields_are_written(
    api: Api, mask: list[str] | None, fields: dict[str, Any], expected: object
) -> None:
    task = api.create("Buy milk", "Two litres")
    assert expected == written(api.update(task.id, mask, **fields))
    assert expected == written(api.get(task.id))


@pytest.mark.parametrize("fields", [{}, {"etag": "1"}, {"create_time": Timestamp(seconds=1)}, {"status": 0}])
def test_without_a_mask_something_must_be_populated(api: Api, fields: dict[str, Any]) -> None:
    task = api.create()
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.update(task.id, **fields)
    assert refusal.fields == ["update_mask"]
    assert task == api.get(task.id)


def test_without_a_mask_output_only_fields_are_ignored(api: Api) -> None:
    task = api.create()
    long_ago = Timestamp(seconds=1)
    changed = api.update(
        task.id, title="Buy oat milk", create_time=long_ago, update_time=long_ago, complete_time=long_ago
    )
    assert changed.create_time == task.create_time
    assert changed.update_time != long_ago
    assert not changed.HasField("complete_time")


# What is written: a mask


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (["title"], ("Sow oats", "Two litres", INCOMPLETE)),
        (["description"], ("Buy milk", "Wide", INCOMPLETE)),
        (["status"], ("Buy milk", "Two litres", COMPLETE)),
        (["title", "status"], ("Sow oats", "Two litres", COMPLETE)),
        (["status", "description", "title"], ("Sow oats", "Wide", COMPLETE)),
        (["title", "title"], ("Sow oats", "Two litres", INCOMPLETE)),
        (["title", "id", "create_time.seconds"], ("Sow oats", "Two litres", INCOMPLETE)),
        (["*"], ("Sow oats", "Wide", COMPLETE)),
        (["*", "title"], ("Sow oats", "Wide", COMPLETE)),
        (["*", "id"], ("Sow oats", "Wide", COMPLETE)),
    ],
)
def test_the_mask_says_which_of_the_populated_fields_are_written(api: Api, mask: list[str], expected: object) -> None:
    task = api.create("Buy milk", "Two litres")
    assert expected == written(api.update(task.id, mask, title="Sow oats", description="Wide", status=COMPLETE))
    assert expected == written(api.get(task.id))


def test_a_description_in_the_mask_and_not_in_the_task_is_cleared(api: Api) -> None:
    task = api.create("Buy milk", "Two litres")
    assert api.update(task.id, ["description"]).description == ""
    assert api.get(task.id).description == ""


@pytest.mark.parametrize("mask", [["title"], ["title", "description"], ["*"]])
def test_a_title_cannot_be_cleared(api: Api, mask: list[str]) -> None:
    task = api.create("Buy milk", "Two litres")
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.update(task.id, mask, description="Wide")
    assert refusal.fields == ["task.title"]
    assert task == api.get(task.id)


@pytest.mark.parametrize("mask", [["status"], ["status", "title"], ["*", "status"]])
def test_a_status_in_the_mask_needs_a_value(api: Api, mask: list[str]) -> None:
    task = api.create()
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.update(task.id, mask, title="Buy oat milk")
    assert refusal.fields == ["task.status"]
    assert task == api.get(task.id)


@pytest.mark.parametrize(
    ("path", "snake_case"),
    [
        ("createTime", "create_time"),
        ("updateTime", "update_time"),
        ("completeTime.nanos", "complete_time.nanos"),
    ],
)
def test_a_camel_case_mask_path_is_refused_with_its_snake_case_name(api: Api, path: str, snake_case: str) -> None:
    task = api.create()
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.update(task.id, ["title", path], title="Buy oat milk")
    assert refusal.fields == ["update_mask"]
    assert refusal.message == f"update_mask names an unknown path '{path}': write it in snake_case, '{snake_case}'."
    assert task == api.get(task.id)


def test_a_mask_of_thousands_of_unknown_paths_is_refused_in_a_few_words(api: Api) -> None:
    task = api.create()
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.update(task.id, ["x" * 40] * 1500, title="Buy oat milk")
    assert refusal.fields == ["update_mask"]
    assert "and 1499 more" in refusal.message
    assert len(refusal.message) < 300


def test_a_full_replacement_clears_the_description_and_keeps_the_status(api: Api) -> None:
    task = api.complete(api.create("Buy milk", "Two litres").id)
    assert written(api.update(task.id, ["*"], title="Sow oats")) == ("Sow oats", "", COMPLETE)


def test_a_full_replacement_takes_the_status_where_one_is_given(api: Api) -> None:
    task = api.complete(api.create("Buy milk", "Two litres").id)
    assert written(api.update(task.id, ["*"], title="Sow oats", status=INCOMPLETE)) == ("Sow oats", "", INCOMPLETE)


@pytest.mark.parametrize("path", OUTPUT_ONLY_PATHS)
def test_a_mask_of_output_only_paths_leaves_the_task_unchanged(api: Api, path: str) -> None:
    task = api.create()
    assert task == api.update(task.id, [path], title="Sow oats", create_time=Timestamp(seconds=1))
    assert task == api.get(task.id)


def test_a_mask_of_output_only_paths_still_asks_for_the_task_and_its_etag(api: Api) -> None:
    task = api.create()
    assert task == api.update(task.id, ["id"], etag=task.etag)
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        api.update(task.id, ["id"], etag="x")
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.update(str(uuid4()), ["id"])


@pytest.mark.parametrize("path", UNKNOWN_PATHS)
@pytest.mark.parametrize("others", [[], ["title"], ["*"], ["id"]])
def test_an_unknown_path_is_refused(api: Api, path: str, others: list[str]) -> None:
    task = api.create()
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.update(task.id, [*others, path], title="Buy oat milk")
    assert refusal.fields == ["update_mask"]
    assert repr(path) in refusal.message
    assert task == api.get(task.id)


def test_a_refusal_repeats_little_of_an_overlong_path(api: Api) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.update(api.create().id, ["\n" * 10_000])
    assert len(refusal.message) < 300
    assert "\n" not in refusal.message


# What may be written


@pytest.mark.parametrize("title", ["x", "😀" * 255, " padded ", "e\u0301", "a\r\nb\t"])
def test_titles_come_back_byte_for_byte(api: Api, title: str) -> None:
    task = api.create()
    assert title.encode() == api.update(task.id, title=title).title.encode()
    assert title.encode() == api.get(task.id).title.encode()


@pytest.mark.parametrize("description", [" ", "😀" * 5000, "\u200f\u0301\ufeff\uffff"])
def test_descriptions_come_back_byte_for_byte(api: Api, description: str) -> None:
    task = api.create()
    assert description.encode() == api.update(task.id, description=description).description.encode()
    assert description.encode() == api.get(task.id).description.encode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "x" * 256),
        ("title", "\u2003\u00a0"),
        ("title", "a\0b"),
        ("description", "x" * 5001),
        ("description", "a\0b"),
        ("status", 3),
        ("status", -1),
        ("status", 2**31 - 1),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_bad_values_are_refused(api: Api, masked: bool, field: str, value: Any) -> None:
    task = api.create()
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.update(task.id, [field] if masked else None, **{field: value})
    assert refusal.fields == [f"task.{field}"]
    assert task == api.get(task.id)


def test_bad_values_of_a_full_replacement_are_refused_all_at_once(api: Api) -> None:
    task = api.create()
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.update(task.id, ["*"], title="x" * 256, description="\0", status=7)
    assert refusal.fields == ["task.title", "task.description", "task.status"]
    assert task == api.get(task.id)


@pytest.mark.parametrize(
    ("mask", "fields"),
    [
        (["title"], {"title": "Sow oats", "description": "\0", "status": 7}),
        (["description"], {"title": "x" * 256, "description": "Wide", "status": -1}),
        (["status"], {"title": "\0", "description": "x" * 5001, "status": COMPLETE}),
        (["id"], {"title": "\0", "description": "x" * 5001, "status": 7}),
    ],
)
def test_bad_values_that_the_mask_does_not_name_are_ignored(api: Api, mask: list[str], fields: dict[str, Any]) -> None:
    task = api.create("Buy milk", "Two litres")
    expected = tuple(
        fields[field] if field in mask else getattr(task, field) for field in ("title", "description", "status")
    )
    assert expected == written(api.update(task.id, mask, **fields))


# What a write leaves behind


def test_a_change_makes_a_new_etag_and_a_later_update_time_and_keeps_the_create_time(api: Api) -> None:
    task = api.create()
    seen = {task.etag}
    for fields in ({"title": "Sow oats"}, {"description": "Wide"}, {"status": COMPLETE}, {"status": INCOMPLETE}):
        before, task = task, api.update(task.id, **fields)
        assert before.create_time == task.create_time
        assert before.update_time.ToNanoseconds() < task.update_time.ToNanoseconds()
        assert task == api.get(task.id)
        seen.add(task.etag)
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("mask", "fields"),
    [
        (None, {"title": "Buy milk"}),
        (None, {"title": "Buy milk", "description": "Two litres", "status": COMPLETE}),
        (None, {"status": COMPLETE}),
        (["title"], {"title": "Buy milk"}),
        (["description"], {"description": "Two litres"}),
        (["status"], {"status": COMPLETE}),
        (["title"], {"title": "Buy milk", "description": "Wide", "status": INCOMPLETE}),
        (["*"], {"title": "Buy milk", "description": "Two litres"}),
    ],
)
@pytest.mark.parametrize("with_etag", [False, True])
def test_an_update_that_changes_nothing_changes_nothing(
    api: Api, with_etag: bool, mask: list[str] | None, fields: dict[str, Any]
) -> None:
    task = api.complete(api.create("Buy milk", "Two litres").id)
    assert task == api.update(task.id, mask, etag=task.etag if with_etag else "", **fields)
    assert task == api.get(task.id)


def test_setting_the_status_complete_sets_the_complete_time(api: Api) -> None:
    done = api.update(api.create().id, status=COMPLETE)
    assert done.complete_time == done.update_time
    assert done == api.get(done.id)


def test_changing_a_complete_task_keeps_its_complete_time(api: Api) -> None:
    done = api.complete(api.create().id)
    changed = api.update(done.id, title="Buy oat milk", status=COMPLETE)
    assert (done.complete_time, "Buy oat milk") == (changed.complete_time, changed.title)
    assert done.update_time.ToNanoseconds() < changed.update_time.ToNanoseconds()


@pytest.mark.parametrize(("mask", "title"), [(None, ""), (["status"], ""), (["*"], "Buy milk"), (None, "Buy oat milk")])
def test_reopening_clears_the_complete_time(api: Api, mask: list[str] | None, title: str) -> None:
    done = api.complete(api.create().id)
    reopened = api.update(done.id, mask, title=title, status=INCOMPLETE)
    assert reopened.status == INCOMPLETE
    assert not reopened.HasField("complete_time")
    assert reopened == api.get(done.id)


def test_only_the_task_that_is_named_is_changed(api: Api) -> None:
    other, task = api.create("Other"), api.create()
    api.update(task.id, title="Buy oat milk")
    assert other == api.get(other.id)


# Which task, and in which state


def test_the_current_etag_lets_the_task_be_changed(api: Api) -> None:
    task = api.create()
    for title in ("Sow oats", "Reap oats", "Eat oats"):
        task = api.update(task.id, title=title, etag=task.etag)
    assert task.title == "Eat oats"


def test_a_stale_etag_is_refused_and_nothing_changed(api: Api) -> None:
    task = api.create()
    changed = api.update(task.id, title="Sow oats")
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        api.update(task.id, description="Wide", etag=task.etag)
    assert changed == api.get(task.id)


def test_a_stale_etag_is_refused_even_if_nothing_would_change(api: Api) -> None:
    task = api.create()
    changed = api.update(task.id, title="Sow oats")
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        api.update(task.id, title="Sow oats", etag=task.etag)
    assert changed == api.get(task.id)


def test_an_etag_does_not_come_back_with_the_content(api: Api) -> None:
    task = api.create("Buy milk")
    api.update(task.id, title="Sow oats")
    api.update(task.id, title="Buy milk")
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        api.update(task.id, title="Reap oats", etag=task.etag)


@pytest.mark.parametrize("etag", ALIEN_ETAGS)
def test_an_etag_that_the_task_never_had_is_stale(api: Api, etag: str) -> None:
    task = api.create()
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        api.update(task.id, title="Buy oat milk", etag=etag)
    assert task == api.get(task.id)


@pytest.mark.parametrize("etag", ["", "1", "x"])
def test_a_missing_task_is_not_found_whatever_the_etag(api: Api, etag: str) -> None:
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.update(str(uuid4()), title="Buy oat milk", etag=etag)


def test_a_deleted_task_is_not_found_and_does_not_come_back(api: Api) -> None:
    task = api.create()
    api.delete(task.id)
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.update(task.id, title="Buy oat milk", etag=task.etag)
    assert list(api.list().tasks) == []


def test_an_id_in_upper_case_names_the_same_task(api: Api) -> None:
    task = api.create()
    changed = api.update(task.id.upper(), title="Buy oat milk")
    assert task.id == changed.id
    assert changed == api.get(task.id)


@pytest.mark.parametrize("task_id", MALFORMED_IDS)
def test_what_is_not_a_uuid_is_refused(api: Api, task_id: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.update(task_id, title="Buy oat milk")
    assert refusal.fields == ["task.id"]


def test_a_request_without_a_task_says_what_is_missing(api: Api) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.call("UpdateTask", tasks_pb2.UpdateTaskRequest())
    assert refusal.fields == ["task.id"]


# Many at once


def test_of_fifty_updates_at_once_with_one_etag_one_wins(api: Api) -> None:
    task = api.create()
    requests = [
        tasks_pb2.UpdateTaskRequest(task=tasks_pb2.Task(id=task.id, title=f"Title {number}", etag=task.etag))
        for number in range(50)
    ]
    calls = [api.start("UpdateTask", request) for request in requests]
    codes = [call.code() for call in calls]
    assert (codes.count(StatusCode.OK), codes.count(StatusCode.ABORTED)) == (1, 49)
    assert calls[codes.index(StatusCode.OK)].result() == api.get(task.id)


def test_fifty_updates_at_once_without_an_etag_all_take_place_one_after_the_other(api: Api) -> None:
    task = api.create()
    requests = [
        tasks_pb2.UpdateTaskRequest(
            task=tasks_pb2.Task(id=task.id, title=f"Title {number}", description=f"Description {number}"),
            update_mask=FieldMask(paths=["title" if number % 2 else "description"]),
        )
        for number in range(50)
    ]
    answers = [call.result() for call in [api.start("UpdateTask", request) for request in requests]]
    last = api.get(task.id)
    assert len({answer.etag for answer in answers}) == 50
    assert last in answers
    assert (last.title.split()[0], last.description.split()[0]) == ("Title", "Description")
