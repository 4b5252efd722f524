"""CompleteTask through a real server and the generated client."""

from uuid import uuid4

import pytest
from grpc import StatusCode
from taskwell.v1 import tasks_pb2

from tests.rpc.given import ALIEN_ETAGS, MALFORMED_IDS
from tests.running import COMPLETE, INCOMPLETE, Api, refused


def test_completing_sets_the_status_and_its_time_and_nothing_else(api: Api) -> None:
    task = api.create("Buy milk", "Two litres")
    done = api.complete(task.id)
    assert (task.id, task.title, task.description, task.create_time) == (
        done.id,
        done.title,
        done.description,
        done.create_time,
    )
    assert done.status == COMPLETE
    assert done.complete_time == done.update_time
    assert done.update_time.ToNanoseconds() > task.update_time.ToNanoseconds()
    assert done.etag != task.etag
    assert done == api.get(task.id)


def test_completing_a_complete_task_changes_nothing(api: Api) -> None:
    done = api.complete(api.create().id)
    assert done == api.complete(done.id)
    assert done == api.complete(done.id, etag=done.etag)
    assert done == api.get(done.id)


def test_a_reopened_task_is_completed_anew(api: Api) -> None:
    first = api.complete(api.create().id)
    api.update(first.id, status=INCOMPLETE)
    second = api.complete(first.id)
    assert second.complete_time == second.update_time
    assert second.complete_time.ToNanoseconds() > first.complete_time.ToNanoseconds()


def test_only_the_task_that_is_named_is_completed(api: Api) -> None:
    other, task = api.create("Other"), api.create()
    api.complete(task.id)
    assert other == api.get(other.id)


def test_the_current_etag_lets_the_task_be_completed(api: Api) -> None:
    task = api.create()
    assert api.complete(task.id, etag=task.etag).status == COMPLETE


def test_a_stale_etag_is_refused_and_nothing_completed(api: Api) -> None:
    task = api.create()
    changed = api.update(task.id, title="Buy oat milk")
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        api.complete(task.id, etag=task.etag)
    assert changed == api.get(task.id)


def test_a_stale_etag_is_refused_even_if_the_task_is_complete_already(api: Api) -> None:
    task = api.create()
    done = api.complete(task.id)
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        api.complete(task.id, etag=task.etag)
    assert done == api.get(task.id)


def test_the_etag_of_before_a_completion_and_a_reopening_is_stale(api: Api) -> None:
    task = api.create()
    api.complete(task.id)
    reopened = api.update(task.id, status=INCOMPLETE)
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        api.complete(task.id, etag=task.etag)
    assert reopened == api.get(task.id)


@pytest.mark.parametrize("etag", ALIEN_ETAGS)
def test_an_etag_that_the_task_never_had_is_stale(api: Api, etag: str) -> None:
    task = api.create()
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        api.complete(task.id, etag=etag)
    assert task == api.get(task.id)


@pytest.mark.parametrize("etag", ["", "1", "x"])
def test_a_missing_task_is_not_found_whatever_the_etag(api: Api, etag: str) -> None:
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.complete(str(uuid4()), etag=etag)


def test_a_deleted_task_is_not_found(api: Api) -> None:
    task = api.create()
    api.delete(task.id)
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.complete(task.id, etag=task.etag)


def test_an_id_in_upper_case_names_the_same_task(api: Api) -> None:
    task = api.create()
    done = api.complete(task.id.upper())
    assert task.id == done.id
    assert done == api.get(task.id)


@pytest.mark.parametrize("task_id", MALFORMED_IDS)
def test_what_is_not_a_uuid_is_refused(api: Api, task_id: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.complete(task_id, etag="1")
    assert refusal.fields == ["id"]


def test_fifty_completions_at_once_complete_the_task_once(api: Api) -> None:
    task = api.create()
    calls = [api.start("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task.id)) for _ in range(50)]
    answers = [call.result() for call in calls]
    assert [api.get(task.id)] * 50 == answers
    assert answers[0].complete_time == answers[0].update_time


def test_fifty_completions_at_once_with_one_etag_let_one_through(api: Api) -> None:
    task = api.create()
    request = tasks_pb2.CompleteTaskRequest(id=task.id, etag=task.etag)
    calls = [api.start("CompleteTask", request) for _ in range(50)]
    codes = [call.code() for call in calls]
    assert (codes.count(StatusCode.OK), codes.count(StatusCode.ABORTED)) == (1, 49)
