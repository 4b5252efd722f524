"""Another user's task does not exist: no method can tell it from a missing one, or touch it."""

from typing import Any
from uuid import uuid4

import pytest
from grpc import StatusCode
from taskwell.v1 import tasks_pb2

from tests.methods import METHODS, Target, attempts, names_a_task
from tests.running import Api


def outcome(call: Any) -> object:
    """All that a caller can learn from a call but the task that a create makes."""
    if call.code() is not StatusCode.OK:
        told = [(name, value) for name, value in call.trailing_metadata() if name != "x-request-id"]
        return call.code(), call.details(), told
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
    reaching = attempts(method, Target(theirs, request_id, page_token))
    missing_it = attempts(method, Target(missing, str(uuid4()), "no token"))
    newcomer, settled = api.as_user(), api.as_user()
    settled.create("Mine")
    for stranger in (newcomer, settled):
        for reach, miss in zip(reaching, missing_it, strict=True):
            assert outcome(stranger.start(method, miss)) == outcome(stranger.start(method, reach))
            assert before == api.list()


@pytest.mark.parametrize("method", [method for method in METHODS if names_a_task(method)])
def test_what_names_another_users_task_is_not_found(api: Api, method: str) -> None:
    theirs = api.create()
    for request in attempts(method, Target(theirs)):
        allowed = isinstance(request, tasks_pb2.DeleteTaskRequest) and request.allow_missing
        assert (StatusCode.OK if allowed else StatusCode.NOT_FOUND) == api.as_user().start(method, request).code()
    assert theirs == api.get(theirs.id)


def test_a_list_holds_the_callers_tasks_alone(api: Api) -> None:
    users = [api, api.as_user(), api.as_user()]
    tasks = [[user.create(f"Task {number}") for number in range(3)][::-1] for user in users]
    assert tasks == [list(user.list().tasks) for user in users]
    assert tasks == [list(user.walk(page_size=1)) for user in users]
