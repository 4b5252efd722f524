"""DeleteTask through a real server and the generated client."""

from uuid import uuid4

import pytest
from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode
from taskwell.v1 import tasks_pb2

from tests.rpc.given import ALIEN_ETAGS, MALFORMED_IDS
from tests.running import Api, refused


def test_a_deleted_task_is_gone_for_every_method(api: Api) -> None:
    task = api.create()
    assert Empty() == api.call("DeleteTask", tasks_pb2.DeleteTaskRequest(id=task.id))
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.get(task.id)
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.update(task.id, title="Buy oat milk")
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.complete(task.id)
    assert list(api.list().tasks) == []


def test_a_complete_task_can_be_deleted(api: Api) -> None:
    done = api.complete(api.create().id)
    api.delete(done.id, etag=done.etag)
    assert list(api.list().tasks) == []


def test_only_the_task_that_is_named_is_deleted(api: Api) -> None:
    other, task = api.create("Other"), api.create()
    api.delete(task.id)
    assert [other] == list(api.list().tasks)


def test_a_second_delete_is_not_found(api: Api) -> None:
    task = api.create()
    api.delete(task.id)
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.delete(task.id)
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.delete(task.id, etag=task.etag)


def test_a_task_that_never_was_is_not_found(api: Api) -> None:
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.delete(str(uuid4()))


def test_a_missing_task_may_be_deleted_if_the_caller_allows_it(api: Api) -> None:
    task = api.create()
    for _ in range(3):
        api.delete(task.id, allow_missing=True)
    assert list(api.list().tasks) == []
    api.delete(str(uuid4()), allow_missing=True)
    api.delete(str(uuid4()), allow_missing=True, etag="1")
    api.delete(str(uuid4()), allow_missing=True, etag="x")


def test_the_current_etag_lets_the_task_be_deleted(api: Api) -> None:
    task = api.create()
    api.delete(task.id, etag=api.update(task.id, title="Buy oat milk").etag)
    assert list(api.list().tasks) == []


@pytest.mark.parametrize("allow_missing", [False, True])
def test_a_stale_etag_is_refused_and_nothing_deleted(api: Api, allow_missing: bool) -> None:
    task = api.create()
    changed = api.update(task.id, title="Buy oat milk")
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        api.delete(task.id, etag=task.etag, allow_missing=allow_missing)
    assert changed == api.get(task.id)


@pytest.mark.parametrize("etag", ALIEN_ETAGS)
def test_an_etag_that_the_task_never_had_is_stale(api: Api, etag: str) -> None:
    task = api.create()
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        api.delete(task.id, etag=etag)
    assert task == api.get(task.id)


@pytest.mark.parametrize("etag", ["1", "x"])
def test_a_missing_task_is_not_found_whatever_the_etag(api: Api, etag: str) -> None:
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.delete(str(uuid4()), etag=etag)


def test_an_id_in_upper_case_names_the_same_task(api: Api) -> None:
    task = api.create()
    api.delete(task.id.upper())
    assert list(api.list().tasks) == []


@pytest.mark.parametrize("task_id", MALFORMED_IDS)
def test_what_is_not_a_uuid_is_refused(api: Api, task_id: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.delete(task_id, allow_missing=True)
    assert refusal.fields == ["id"]


@pytest.mark.parametrize("with_etag", [False, True])
def test_of_fifty_deletes_at_once_one_succeeds(api: Api, with_etag: bool) -> None:
    task = api.create()
    request = tasks_pb2.DeleteTaskRequest(id=task.id, etag=task.etag if with_etag else "")
    codes = [call.code() for call in [api.start("DeleteTask", request) for _ in range(50)]]
    assert (codes.count(StatusCode.OK), codes.count(StatusCode.NOT_FOUND)) == (1, 49)


def test_fifty_deletes_at_once_all_succeed_if_the_task_may_be_missing(api: Api) -> None:
    task = api.create()
    request = tasks_pb2.DeleteTaskRequest(id=task.id, allow_missing=True)
    codes = [call.code() for call in [api.start("DeleteTask", request) for _ in range(50)]]
    assert codes == [StatusCode.OK] * 50
    assert list(api.list().tasks) == []
