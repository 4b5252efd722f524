"""Conditions: a task's etag is its ETag, so that HTTP's own tools keep what is current and lose no update."""

from collections.abc import Callable

import pytest
from taskwell.v1 import tasks_pb2

from tests.rest.client import Response, RestApi

Write = Callable[[RestApi, str, str], Response]
NO_TASK = "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234"


def _sent(method: str, path: str, body: object = None) -> Write:
    def send(api: RestApi, task_id: str, if_match: str) -> Response:
        return api.send(method, path.format(task_id), body, [("if-match", if_match)])

    return send


WRITES: dict[str, Write] = {
    "patch": _sent("PATCH", "/v1/tasks/{}", {"title": "Sow oats"}),
    "put": _sent("PUT", "/v1/tasks/{}", {"title": "Sow oats"}),
    "delete": _sent("DELETE", "/v1/tasks/{}"),
    "complete": _sent("POST", "/v1/tasks/{}:complete"),
    "complete, the other way": _sent("PATCH", "/v1/tasks/{}/complete"),
}


@pytest.fixture
def task(api: RestApi) -> tasks_pb2.Task:
    """A task that has changed since it was made: its first etag is stale."""
    task = api.create("Buy milk", "Two litres")
    return api.update(task.id, description="Three litres")


# ETag


def test_a_single_task_has_an_etag_and_a_list_has_none(api: RestApi, task: tasks_pb2.Task) -> None:
    path = f"/v1/tasks/{task.id}"
    assert api.send("GET", path).headers["etag"] == f'"{task.etag}"'
    assert api.send("HEAD", path).headers["etag"] == f'"{task.etag}"'
    changed = api.send("PATCH", path, {"title": "Sow oats"})
    assert changed.headers["etag"] == f'"{changed.json["etag"]}"' != f'"{task.etag}"'
    for method, target in (("GET", "/v1/tasks"), ("GET", f"/v1/tasks/{NO_TASK}"), ("DELETE", path)):
        assert "etag" not in api.send(method, target).headers


# If-Match


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("if_match", ['"{}"', ' "{}"\t', "*", " * "])
def test_a_write_is_done_if_the_etag_of_if_match_is_current(
    api: RestApi, task: tasks_pb2.Task, write: Write, if_match: str
) -> None:
    assert write(api, task.id, if_match.format(task.etag, task.etag)).status == 200
    assert [task] != list(api.list().tasks)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("if_match", ['"1"', '"x"', '""', 'W/"{}"', '"\xe9"', '"{}x"', '"0{}"', '"\'"'])
def test_a_write_is_not_done_if_the_etag_of_if_match_is_stale(
    api: RestApi, task: tasks_pb2.Task, write: Write, if_match: str
) -> None:
    refused = write(api, task.id, if_match.format(task.etag))
    assert (refused.status, refused.reason) == (412, "ETAG_STALE")
    assert [task] == list(api.list().tasks)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize(
    "if_match",
    [
        "",
        "1",
        "'1'",
        '"1',
        '1"',
        '"1" "2"',
        '"1"; "2"',
        '*, "1"',
        '"1", *',
        "**",
        'w/"1"',
        '"a b"',
        '"1", "2"',
        '"1",',
        ',"1"',
    ],
)
def test_if_match_takes_one_etag(api: RestApi, task: tasks_pb2.Task, write: Write, if_match: str) -> None:
    refused = write(api, task.id, if_match)
    assert (refused.status, refused.reason) == (400, "HEADER_INVALID")
    assert "if-match" in refused.json["message"]
    assert [task] == list(api.list().tasks)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("if_match", ['"1"', "*"])
def test_a_task_that_is_not_there_is_not_found_whatever_its_etag(api: RestApi, write: Write, if_match: str) -> None:
    refused = write(api, NO_TASK, if_match)
    assert (refused.status, refused.reason) == (404, "TASK_NOT_FOUND")


def test_if_match_on_two_lines_is_refused(api: RestApi, task: tasks_pb2.Task) -> None:
    head = f"DELETE /v1/tasks/{task.id} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-user-id: {api.user}\r\n"
    answer = api.client.exchange(f'{head}if-match: "1"\r\nif-match: "{task.etag}"\r\n\r\n'.encode())
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_an_etag_in_the_request_is_as_good_and_http_has_another_word_for_it(api: RestApi, task: tasks_pb2.Task) -> None:
    path = f"/v1/tasks/{task.id}"
    for answer in (
        api.send("PATCH", path, {"title": "x", "etag": "1"}),
        api.send("DELETE", f"{path}?etag=1"),
        api.send("POST", f"{path}:complete?etag=1"),
    ):
        assert (answer.status, answer.reason) == (409, "ETAG_STALE")
    for etag, status in (("1", 412), (task.etag, 200)):
        assert api.send("PATCH", path, {"title": "x", "etag": etag}, [("if-match", f'"{etag}"')]).status == status


def test_two_etags_that_differ_are_refused(api: RestApi, task: tasks_pb2.Task) -> None:
    path, header = f"/v1/tasks/{task.id}", [("if-match", f'"{task.etag}"')]
    for answer in (
        api.send("PATCH", path, {"title": "x", "etag": "1"}, header),
        api.send("DELETE", f"{path}?etag=1", headers=header),
        api.send("DELETE", f"{path}?allow_missing=true", headers=header),
        api.send("DELETE", f"{path}?allow_missing=true", headers=[("if-match", "*")]),
    ):
        assert (answer.status, answer.reason) == (400, "HEADER_INVALID")
    assert [task] == list(api.list().tasks)
    starred = api.send("PATCH", path, {"title": "x", "etag": "1"}, [("if-match", "*")])
    assert (starred.status, starred.reason) == (412, "ETAG_STALE")


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/tasks"), ("GET", "/v1/tasks"), ("GET", "/v1/tasks/1")])
def test_a_condition_that_would_not_be_heeded_is_refused(api: RestApi, method: str, path: str) -> None:
    body = {"title": "x"} if method == "POST" else None
    for header in ("if-match", "if-none-match"):
        if header == "if-none-match" and method == "GET":
            continue
        refused = api.send(method, path, body, [(header, '"1"')])
        assert (refused.status, refused.reason) == (400, "HEADER_INVALID")


def test_of_twenty_writes_with_one_etag_one_is_done(api: RestApi, task: tasks_pb2.Task) -> None:
    headers = [("if-match", f'"{task.etag}"')]

    def write(number: int) -> int:
        return api.send("PATCH", f"/v1/tasks/{task.id}", {"title": f"{number}"}, headers).status

    statuses = list(api.client.pool.map(write, range(20)))
    assert sorted(statuses) == [200] + [412] * 19


# If-None-Match


@pytest.mark.parametrize("if_none_match", ['"{}"', 'W/"{}"', '"x", "{}"', '"x" ,W/"{}",', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_a_client_has_already_is_not_sent_again(
    api: RestApi, task: tasks_pb2.Task, method: str, if_none_match: str
) -> None:
    answer = api.send(method, f"/v1/tasks/{task.id}", headers=[("if-none-match", if_none_match.format(task.etag))])
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"] == f'"{task.etag}"'
    assert answer.headers["cache-control"] == "private, no-cache"
    assert "content-type" not in answer.headers


@pytest.mark.parametrize("if_none_match", ['"1"', 'W/"x"', '"{}x"', '""'])
def test_what_a_client_has_not_is_sent(api: RestApi, task: tasks_pb2.Task, if_none_match: str) -> None:
    answer = api.send("GET", f"/v1/tasks/{task.id}", headers=[("if-none-match", if_none_match.format(task.etag))])
    assert (answer.status, answer.json["id"]) == (200, task.id)


def test_another_users_task_is_not_told_by_its_etag(api: RestApi, task: tasks_pb2.Task) -> None:
    stranger = api.as_user()
    for header in ("if-none-match", "if-match"):
        for value in (f'"{task.etag}"', "*"):
            method = "GET" if header == "if-none-match" else "DELETE"
            answer = stranger.send(method, f"/v1/tasks/{task.id}", headers=[(header, value)])
            assert answer.status == 404
            assert answer.body == stranger.send(method, f"/v1/tasks/{NO_TASK}", headers=[(header, value)]).body


def test_a_list_is_always_sent(api: RestApi, task: tasks_pb2.Task) -> None:
    answer = api.send("GET", "/v1/tasks", headers=[("if-none-match", f'"{task.etag}"')])
    assert (answer.status, len(answer.json["tasks"])) == (200, 1)


def test_a_condition_needs_a_caller_first(api: RestApi, task: tasks_pb2.Task) -> None:
    answer = api.client.send("DELETE", f"/v1/tasks/{task.id}", {"if-match": "nonsense"})
    assert (answer.status, answer.reason) == (401, "CALLER_MISSING")
