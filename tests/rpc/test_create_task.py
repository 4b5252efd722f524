"""CreateTask through a real server and the generated client."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from grpc import StatusCode
from taskwell.v1 import tasks_pb2

from tests.running import COMPLETE, INCOMPLETE, Api, refused

MADE = "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234"
"""A well-formed request_id."""


def test_a_new_task_is_answered_whole(api: Api) -> None:
    before = datetime.now(UTC) - timedelta(microseconds=1)
    task = api.create("Buy milk", "Two litres")
    assert (task.title, task.description, task.status) == ("Buy milk", "Two litres", INCOMPLETE)
    assert UUID(task.id).version == 7
    assert task.id == str(UUID(task.id))
    assert before <= task.create_time.ToDatetime(tzinfo=UTC) <= datetime.now(UTC)
    assert task.create_time == task.update_time
    assert task.etag
    assert not task.HasField("complete_time")


def test_what_a_create_answers_is_what_is_read_later(api: Api) -> None:
    task = api.create("Buy milk", "Two litres")
    assert task == api.get(task.id)
    assert [task] == list(api.list().tasks)


def test_creates_without_a_request_id_make_a_task_each(api: Api) -> None:
    assert len({api.create("Buy milk").id for _ in range(3)}) == 3


def test_output_only_fields_are_ignored(api: Api) -> None:
    given = tasks_pb2.Task(title="Buy milk", id=str(uuid4()), etag="mine")
    given.create_time.GetCurrentTime()
    given.complete_time.GetCurrentTime()
    task = api.call("CreateTask", tasks_pb2.CreateTaskRequest(task=given))
    assert task.id != given.id
    assert task.etag != given.etag
    assert task.create_time != given.create_time
    assert not task.HasField("complete_time")


def test_the_status_of_a_new_task_may_be_given_as_incomplete(api: Api) -> None:
    assert api.create(status=INCOMPLETE).status == INCOMPLETE


@pytest.mark.parametrize("status", [COMPLETE, 7, -1])
def test_a_task_cannot_be_created_in_another_status(api: Api, status: int) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.create(status=status)
    assert refusal.fields == ["task.status"]


@pytest.mark.parametrize(
    "title", ["x", "x" * 255, "😀" * 255, " padded ", "e\u0301", "\u0301", "שלום עולם", "\u202eabc", "a\r\nb\t"]
)
def test_titles_of_up_to_255_code_points_come_back_byte_for_byte(api: Api, title: str) -> None:
    task = api.create(title)
    assert title.encode() == task.title.encode()
    assert title.encode() == api.get(task.id).title.encode()
    assert title.encode() == api.list().tasks[0].title.encode()


@pytest.mark.parametrize("title", ["", "x" * 256, "😀" * 256, " ", "\t\n", "\u2003\u00a0", "a\0b", "\0"])
def test_other_titles_are_refused(api: Api, title: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.create(title)
    assert set(refusal.fields) == {"task.title"}
    assert refusal.message.startswith("task.title ")
    assert not api.list().tasks


@pytest.mark.parametrize("description", ["", " ", "x" * 5000, "😀" * 5000, "\u200f\u0301\ufeff\uffff"])
def test_descriptions_of_up_to_5000_code_points_come_back_byte_for_byte(api: Api, description: str) -> None:
    task = api.create("Buy milk", description)
    assert description.encode() == task.description.encode()
    assert description.encode() == api.get(task.id).description.encode()


@pytest.mark.parametrize("description", ["x" * 5001, "😀" * 5001, "a\0b"])
def test_other_descriptions_are_refused(api: Api, description: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.create("Buy milk", description)
    assert refusal.fields == ["task.description"]


def test_everything_that_is_wrong_is_said_at_once(api: Api) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.create("", "\0", request_id="1", status=COMPLETE)
    assert refusal.fields == ["task.title", "task.description", "task.status", "request_id"]


def test_a_request_without_a_task_says_what_is_missing(api: Api) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.call("CreateTask", tasks_pb2.CreateTaskRequest())
    assert refusal.fields == ["task.title"]


def test_an_equal_request_answers_the_task_that_was_made_first(api: Api) -> None:
    request_id = str(uuid4())
    first = api.create("Buy milk", request_id=request_id)
    assert first == api.create("Buy milk", request_id=request_id)
    assert first == api.create("Buy milk", request_id=request_id.upper())
    assert [first] == list(api.list().tasks)


def test_an_equal_request_answers_the_task_as_it_is_now(api: Api) -> None:
    request_id = str(uuid4())
    first = api.create("Buy milk", request_id=request_id)
    changed = api.update(first.id, title="Buy oat milk")
    assert changed == api.create("Buy milk", request_id=request_id)


@pytest.mark.parametrize(("title", "description"), [("Buy bread", ""), ("Buy milk", "now"), ("Buy ", "milk")])
def test_a_request_id_with_other_content_is_refused(api: Api, title: str, description: str) -> None:
    request_id = str(uuid4())
    first = api.create("Buy milk", request_id=request_id)
    with refused(StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
        api.create(title, description, request_id=request_id)
    assert [first] == list(api.list().tasks)


def test_request_ids_of_different_users_have_nothing_to_do_with_each_other(api: Api) -> None:
    request_id = str(uuid4())
    mine, theirs = api.create(request_id=request_id), api.as_user().create("Other", request_id=request_id)
    assert mine.id != theirs.id


def test_the_request_id_of_a_deleted_task_may_be_used_again(api: Api) -> None:
    request_id = str(uuid4())
    first = api.create(request_id=request_id)
    api.delete(first.id)
    assert first.id != api.create(request_id=request_id).id


@pytest.mark.parametrize(
    "request_id", ["1", "x" * 36, f"{{{MADE}}}", MADE.replace("-", ""), f" {MADE}", f"{MADE}\n", str(UUID(int=0))]
)
def test_a_malformed_request_id_is_refused(api: Api, request_id: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.create(request_id=request_id)
    assert refusal.fields == ["request_id"]


def test_fifty_equal_creates_at_once_make_one_task(api: Api) -> None:
    request = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="Buy milk"), request_id=str(uuid4()))
    calls = [api.start("CreateTask", request) for _ in range(50)]
    assert len({call.result().id for call in calls}) == 1
    assert len(api.list().tasks) == 1


def test_fifty_creates_with_one_request_id_and_other_content_each_make_one_task(api: Api) -> None:
    request_id = str(uuid4())
    calls = [
        api.start(
            "CreateTask", tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title=f"Task {n}"), request_id=request_id)
        )
        for n in range(50)
    ]
    codes = sorted(str(call.code()) for call in calls)
    assert codes == sorted([str(StatusCode.ALREADY_EXISTS)] * 49 + [str(StatusCode.OK)])
    assert len(api.list().tasks) == 1
