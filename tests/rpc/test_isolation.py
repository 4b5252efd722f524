"""Another user's task does not exist: no method can tell it from a missing one, or touch it."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from grpc import StatusCode
from taskwell.v1 import tasks_pb2

from tests.rpc.given import METHODS
from tests.running import COMPLETE, INCOMPLETE, Api


def attempts(method: str, task: tasks_pb2.Task, request_id: str, page_token: str) -> Sequence[Message]:
    """Every way in which a request of this method can name a task, or be told of one. Fails for an unknown method."""
    etags = ("", task.etag, "stale")
    match method:
        case "CreateTask":
            return [tasks_pb2.CreateTaskRequest(task=task, request_id=request_id)]
        case "ListTasks":
            return [
                tasks_pb2.ListTasksRequest(),
                tasks_pb2.ListTasksRequest(status=INCOMPLETE, order_by="create_time"),
                tasks_pb2.ListTasksRequest(page_token=page_token),
            ]
        case "GetTask":
            return [tasks_pb2.GetTaskRequest(id=each) for each in (task.id, task.id.upper())]
        case "UpdateTask":
            changes = (
                tasks_pb2.Task(title="Theirs"),
                tasks_pb2.Task(title=task.title),  # would change nothing
                tasks_pb2.Task(title="Theirs", description="Theirs", status=COMPLETE),
            )
            return [
                tasks_pb2.UpdateTaskRequest(
                    task=tasks_pb2.Task(
                        id=task.id, etag=etag, title=change.title, description=change.description, status=change.status
                    ),
                    update_mask=FieldMask(paths=mask),
                )
                for change in changes
                for etag in etags
                for mask in ([], ["title"], ["*"], ["id"])
            ]
        case "DeleteTask":
            return [
                tasks_pb2.DeleteTaskRequest(id=task.id, etag=etag, allow_missing=allow_missing)
                for etag in etags
                for allow_missing in (False, True)
            ]
        case "CompleteTask":
            return [tasks_pb2.CompleteTaskRequest(id=task.id, etag=etag) for etag in etags]
    raise AssertionError(f"how could {method} be used to reach another user's task?")


def outcome(call: Any) -> object:
    """All that a caller can learn from a call but the task that a create makes."""
    if call.code() is not StatusCode.OK:
        return call.code(), call.details(), call.trailing_metadata()
    answer = call.result()
    if isinstance(answer, tasks_pb2.Task):
        return answer.title, answer.description, answer.status, answer.etag
    return answer


@pytest.mark.parametrize("method", METHODS)
def test_another_users_task_is_word_for_word_a_missing_one(api: Api, method: str) -> None:
    request_id = str(uuid4())
    theirs = api.create("Buy milk", "Two litres", request_id=request_id)
    api.create("Feed the cat")
    before = api.list()
    page_token = api.list(page_size=1).next_page_token
    missing = tasks_pb2.Task()
    missing.CopyFrom(theirs)
    missing.id = str(uuid4())
    reaching = attempts(method, theirs, request_id, page_token)
    missing_it = attempts(method, missing, str(uuid4()), "no token")
    newcomer, settled = api.as_user(), api.as_user()
    settled.create("Mine")
    for stranger in (newcomer, settled):
        for reach, miss in zip(reaching, missing_it, strict=True):
            assert outcome(stranger.start(method, miss)) == outcome(stranger.start(method, reach))
            assert before == api.list()


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"CreateTask", "ListTasks"}))
def test_what_names_another_users_task_is_not_found(api: Api, method: str) -> None:
    theirs = api.create()
    for request in attempts(method, theirs, "", ""):
        allowed = isinstance(request, tasks_pb2.DeleteTaskRequest) and request.allow_missing
        assert (StatusCode.OK if allowed else StatusCode.NOT_FOUND) == api.as_user().start(method, request).code()
    assert theirs == api.get(theirs.id)


def test_a_list_holds_the_callers_tasks_alone(api: Api) -> None:
    users = [api, api.as_user(), api.as_user()]
    tasks = [[user.create(f"Task {number}") for number in range(3)][::-1] for user in users]
    assert tasks == [list(user.list().tasks) for user in users]
    assert tasks == [list(user.walk(page_size=1)) for user in users]
