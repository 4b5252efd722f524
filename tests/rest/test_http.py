"""What REST says in HTTP's own words: methods, statuses, headers, bodies that are no requests."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime

import grpc
import pytest

from service.rest.headers import require_json
from service.rest.responses import HttpError
from tests.rest.client import Client, RestApi
from tests.rest.conftest import ANY_PORT
from tests.running import Addresses, Api, new_user, running_addresses, settings_for

NO_TASK = "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234"


@pytest.fixture(scope="module")
def limited(sqlite_url: str) -> Iterator[Client]:
    """A service whose users may call hardly ever."""
    with running_addresses(settings_for(sqlite_url, rest_address=ANY_PORT, rate_limit=0.01)) as addresses:
        client = Client(addresses.rest)
        yield client
        client.close()


# Answers


def test_a_created_task_is_answered_whole(api: RestApi) -> None:
    answer = api.send("POST", "/v1/tasks", {"title": "Buy milk"})
    task = answer.json
    assert answer.status == 200
    assert task == {
        "id": task["id"],
        "title": "Buy milk",
        "description": "",
        "status": "TASK_STATUS_INCOMPLETE",
        "createTime": task["createTime"],
        "updateTime": task["createTime"],
        "etag": task["etag"],
    }
    assert api.send("GET", f"/v1/tasks/{task['id']}").json == task
    assert api.send("GET", "/v1/tasks").json == {"tasks": [task], "nextPageToken": ""}
    assert api.send("DELETE", f"/v1/tasks/{task['id']}").json == {}
    assert api.send("GET", "/v1/tasks").json == {"tasks": [], "nextPageToken": ""}


def test_every_answer_says_what_it_is_and_that_it_is_nobody_elses(api: RestApi) -> None:
    answers = [
        api.send("POST", "/v1/tasks", {"title": "x"}),
        api.send("GET", "/v1/tasks"),
        api.send("GET", "/v1/tasks/1"),
    ]
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "private, no-cache"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert int(answer.headers["content-length"]) == len(answer.body)
        assert parsedate_to_datetime(answer.headers["date"])
        assert "server" not in answer.headers


def test_both_bindings_of_a_method_do_the_same(api: RestApi) -> None:
    first, second = api.create(), api.create()
    answers = [
        api.send("POST", f"/v1/tasks/{first.id}:complete").json,
        api.send("PATCH", f"/v1/tasks/{second.id}/complete").json,
    ]
    assert [answer["status"] for answer in answers] == ["TASK_STATUS_COMPLETE"] * 2


def test_text_comes_back_byte_for_byte(api: RestApi) -> None:
    title = '"Ünïcödé" \\ 😀 \u2028 </script> \x7f\x01'
    for body in (json.dumps({"title": title}), json.dumps({"title": title}, ensure_ascii=False)):
        assert api.send("POST", "/v1/tasks", body).json["title"] == title


# PATCH and PUT


def test_a_patch_changes_what_its_body_names_and_nothing_else(api: RestApi) -> None:
    task = api.create("Buy milk", "Two litres")
    path = f"/v1/tasks/{task.id}"
    assert api.send("PATCH", path, {"title": "Sow oats"}).json["description"] == "Two litres"
    assert api.send("PATCH", path, {"description": ""}).json["title"] == "Sow oats"
    assert api.send("PATCH", path, {"status": "TASK_STATUS_COMPLETE"}).json["title"] == "Sow oats"
    now = api.get(task.id)
    assert (now.title, now.description, now.status) == ("Sow oats", "", 2)
    refused = api.send("PATCH", path, {})
    assert (refused.status, refused.reason, list(refused.violations)) == (400, "INVALID_FIELD", ["update_mask"])
    assert list(api.send("PATCH", path, {"title": None}).violations) == ["task.title"], "null clears, and it may not be"
    assert now == api.get(task.id)


def test_a_task_may_be_sent_back_as_it_came(api: RestApi) -> None:
    task = api.send("POST", "/v1/tasks", {"title": "Buy milk"}).json
    path = f"/v1/tasks/{task['id']}"
    assert api.send("PATCH", path, task).json == task
    assert api.send("PUT", path, task).json == task


def test_a_put_replaces_the_task(api: RestApi) -> None:
    task = api.complete(api.create("Buy milk", "Two litres").id)
    path = f"/v1/tasks/{task.id}"
    replaced = api.send("PUT", path, {"title": "Sow oats"}).json
    assert (replaced["title"], replaced["description"], replaced["status"]) == ("Sow oats", "", "TASK_STATUS_COMPLETE")
    assert list(api.send("PUT", path, {"description": "x"}).violations) == ["task.title"]
    assert api.send("PUT", f"/v1/tasks/{NO_TASK}", {"title": "x"}).status == 404, "it makes no task"


# Errors


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/", 404, "ROUTE_UNKNOWN"),
        ("GET", "/v2/tasks", 404, "ROUTE_UNKNOWN"),
        ("GET", "/v1/tasks/a/b", 404, "ROUTE_UNKNOWN"),
        ("OPTIONS", "/v2/tasks", 404, "ROUTE_UNKNOWN"),
        ("DELETE", "/v1/tasks", 405, "METHOD_UNKNOWN"),
        ("POST", "/v1/tasks/1", 405, "METHOD_UNKNOWN"),
        ("TRACE", "/v1/tasks/1", 405, "METHOD_UNKNOWN"),
        ("POST", "/healthz", 405, "METHOD_UNKNOWN"),
        ("GET", "/%68ealthz", 404, "ROUTE_UNKNOWN"),
        ("GET", f"/v1/tasks/{NO_TASK}", 404, "TASK_NOT_FOUND"),
        ("GET", "/v1/tasks/", 400, "INVALID_FIELD"),
        ("GET", "/v1/tasks/1", 400, "INVALID_FIELD"),
        *(("GET", f"/v1/tasks/{name}", 400, "PATH_MALFORMED") for name in ("%ff", "%zz", "%4", "a%")),
        ("GET", "/v1/tasks?status=7", 400, "INVALID_FIELD"),
        ("GET", "/v1/tasks?page_size=x", 400, "INVALID_FIELD"),
        ("GET", "/v1/tasks?page=2", 400, "INVALID_FIELD"),
        ("GET", "/v1/tasks?order_by=%ff", 400, "QUERY_MALFORMED"),
        ("GET", f"/v1/tasks/{NO_TASK}?id={NO_TASK}", 400, "INVALID_FIELD"),
    ],
)
def test_every_error_is_a_google_rpc_status(api: RestApi, method: str, path: str, status: int, reason: str) -> None:
    answer = api.send(method, path)
    assert (answer.status, answer.reason) == (status, reason)


def test_what_a_path_takes_is_said_when_asked_and_when_refused(api: RestApi) -> None:
    refused = api.send("POST", "/v1/tasks/1")
    assert "accept-patch" not in api.send("OPTIONS", "/v1/tasks").headers
    assert refused.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"
    asked = api.send("OPTIONS", "/v1/tasks/1")
    assert (asked.status, asked.body, asked.headers["allow"]) == (204, b"", refused.headers["allow"])
    assert asked.headers["accept-patch"] == "application/json, application/merge-patch+json"
    for path in ("/healthz", "/readyz"):
        assert api.send("OPTIONS", path).headers["allow"] == "GET, HEAD, OPTIONS"


def test_head_answers_what_get_does_without_the_body(api: RestApi) -> None:
    own = {"date": "", "x-request-id": ""}
    path = f"/v1/tasks/{api.create().id}"
    for target in (path, "/v1/tasks", "/v1/tasks/1", f"/v1/tasks/{NO_TASK}", "/healthz", "/readyz"):
        get, head = api.send("GET", target), api.send("HEAD", target)
        assert (get.status, b"") == (head.status, head.body)
        assert {**get.headers, **own} == {**head.headers, **own}


BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "BODY_MALFORMED"),
    "blank": (b" \n", "BODY_MALFORMED"),
    "cut off": (b'{"title": "x"', "BODY_MALFORMED"),
    "two": (b'{"title": "x"}{}', "BODY_MALFORMED"),
    "a comma too many": (b'{"title": "x",}', "BODY_MALFORMED"),
    "single quotes": (b"{'title': 'x'}", "BODY_MALFORMED"),
    "null": (b"null", "BODY_MALFORMED"),
    "a list": (b'[{"title": "x"}]', "BODY_MALFORMED"),
    "a string": (b'"x"', "BODY_MALFORMED"),
    "Latin-1": (b'{"title": "\xe9"}', "BODY_MALFORMED"),
    "UTF-16": ('{"title": "x"}'.encode("utf-16"), "BODY_MALFORMED"),
    "a byte order mark": (b'\xef\xbb\xbf{"title": "x"}', "BODY_MALFORMED"),
    "a surrogate in UTF-8": (b'{"title": "\xed\xa0\x80"}', "BODY_MALFORMED"),
    "half a surrogate pair": (b'{"title": "\\ud83d"}', "INVALID_FIELD"),
    "half a surrogate pair for a status": (b'{"title": "x", "status": "\\ud83d"}', "INVALID_FIELD"),
    "half a surrogate pair for a field": (b'{"title": "x", "\\ud83d": 1}', "INVALID_FIELD"),
    "a member named twice": (b'{"title": "x", "title": "y"}', "BODY_MALFORMED"),
    "a member in both spellings": (b'{"title": "x", "create_time": null, "createTime": null}', "INVALID_FIELD"),
    "NaN": (b'{"title": NaN}', "BODY_MALFORMED"),
    "Infinity": (b'{"title": "x", "status": -Infinity}', "BODY_MALFORMED"),
    "a huge number": (b'{"title": "x", "status": 1e999}', "INVALID_FIELD"),
    "a long number": (b'{"title": "x", "status": ' + b"1" * 5000 + b"}", "BODY_MALFORMED"),
    "a deep list": (b"[" * 60_000, "BODY_MALFORMED"),
    "a deep object": (b'{"a":' * 10_000, "BODY_MALFORMED"),
    "deep within a field": (b'{"title": ' + b"[" * 900 + b"]" * 900 + b"}", "INVALID_FIELD"),
    "an unknown field": (b'{"title": "x", "colour": "red"}', "INVALID_FIELD"),
    "an extension": (b'{"title": "x", "[a.b]": 1}', "INVALID_FIELD"),
    "another kind": (b'{"title": 5}', "INVALID_FIELD"),
    "true for 1": (b'{"title": "x", "status": true}', "INVALID_FIELD"),
    "1.5 for 1": (b'{"title": "x", "status": 1.5}', "INVALID_FIELD"),
    "an unknown status": (b'{"title": "x", "status": "DONE"}', "INVALID_FIELD"),
    "the field around it": (b'{"task": {"title": "x"}}', "INVALID_FIELD"),
}


@pytest.mark.parametrize(("body", "reason"), BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_task_is_refused(api: RestApi, body: bytes, reason: str) -> None:
    answer = api.send("POST", "/v1/tasks", body)
    assert (answer.status, answer.reason) == (400, reason)
    assert len(answer.body) < 1000
    assert list(api.list().tasks) == []


def test_of_many_unknown_fields_ten_are_named(api: RestApi) -> None:
    body = {f"{number:x}": 0 for number in range(6000)}
    answer = api.send("POST", "/v1/tasks", body)
    assert (answer.status, answer.reason, len(answer.violations)) == (400, "INVALID_FIELD", 10)
    assert answer.json["message"].endswith("; and 5990 more.")
    assert len(answer.body) < 2000


def test_the_field_that_is_wrong_is_named_by_its_path_in_the_request(api: RestApi) -> None:
    body = {"title": 5, "colour": "red", "status": "DONE"}
    assert api.send("POST", "/v1/tasks", body).violations == {
        "task.title": "must be a string of Unicode characters",
        "task.colour": "is not a field of Task",
        "task.status": "must be TASK_STATUS_UNSPECIFIED or TASK_STATUS_INCOMPLETE or TASK_STATUS_COMPLETE",
    }
    assert list(api.send("POST", "/v1/tasks", {"title": " "}).violations) == ["task.title"], "as over gRPC"


def test_a_body_of_64_kib_is_taken_and_a_longer_one_not(api: RestApi) -> None:
    body = b'{"title": "x"}'
    answer = api.send("POST", "/v1/tasks", body + b" " * (65_536 - len(body)))
    assert answer.status == 200
    for size in (65_537, 2**18, 2**18 + 1, 2**22):
        answer = api.client.send("POST", "/v1/tasks", dict(api.metadata), body + b" " * (size - len(body)))
        assert (answer.status, answer.reason) == (413, "MESSAGE_TOO_LARGE")
        assert "longer than 65536 bytes" in answer.json["message"]
    assert len(api.list().tasks) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"content-type": "application/json"}, 200),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-type": 'Application/JSON;charset="UTF-8"'}, 200),
        ({"content-type": "application/json", "content-encoding": "identity"}, 200),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "application/json; charset=utf-8; x=y"}, 200),
        ({"content-type": 'application/json;v="1" ; charset=utf-8;'}, 200),
        ({"content-type": 'application/json;v="1; charset=latin-1" ; charset=utf-8;'}, 415),
        ({"content-type": "application/json; x=y; charset=latin-1"}, 415),
        ({"content-type": "application/json, text/plain"}, 415),
        ({"content-type": "application/json; x"}, 200),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "text/json"}, 415),
        ({"content-type": "application/jsonp"}, 415),
        ({"content-type": ""}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json", "content-encoding": "identity, gzip"}, 415),
        ({"content-type": "application/json", "expect": "100-continue"}, 200),
        ({"content-type": "application/json", "expect": "the impossible"}, 200),
    ],
)
def test_a_body_must_be_said_to_be_json(api: RestApi, headers: dict[str, str], status: int) -> None:
    answer = api.client.send("POST", "/v1/tasks", {**dict(api.metadata), **headers}, '{"title": "x"}')
    assert answer.status == status
    if status == 415:
        assert answer.reason == "MEDIA_TYPE_UNKNOWN"
        assert (answer.headers["accept"], answer.headers["accept-encoding"]) == ("application/json", "identity")


def test_patch_takes_json_merge_patch_and_says_so(api: RestApi) -> None:
    path, merge_patch = f"/v1/tasks/{api.create('Buy milk', 'Two litres').id}", "application/merge-patch+json"
    headers = [("content-type", merge_patch)]
    assert api.send("PATCH", path, {"description": None}, headers).json["description"] == ""
    assert (
        api.send("PATCH", path, {"title": "Sow oats"}, [("content-type", f"{merge_patch}; charset=utf-8")]).status
        == 200
    )
    refused = api.send("PATCH", path, {"title": "x"}, [("content-type", "application/json-patch+json")])
    assert (refused.status, refused.headers["accept-patch"]) == (415, f"application/json, {merge_patch}")
    assert api.send("PUT", path, {"title": "x"}, headers).status == 415
    assert api.send("POST", "/v1/tasks", {"title": "x"}, headers).status == 415


@pytest.mark.parametrize(
    "repeated",
    [" ;", ";", "; a=b", '; a="b"', ' ; a="', " ", "\t", ' ;"', "a", '; charset="utf-8"', "; charset=utf-8 "],
)
@pytest.mark.parametrize("end", ["", '"', "\\"])
def test_the_time_to_read_a_content_type_grows_linearly(repeated: str, end: str) -> None:
    def seconds(times: int) -> float:
        values = {b"content-type": b"application/json" + (repeated * times + end).encode()}
        started = time.process_time()
        with suppress(HttpError):
            require_json(values, is_patch=False)
        return time.process_time() - started

    # Quadratic growth would be 4,096-fold, and exponential growth would not come back.
    assert min(seconds(64_000) for _ in range(3)) < 512 * max(min(seconds(1_000) for _ in range(3)), 1e-5)


def test_a_body_may_come_in_chunks(api: RestApi) -> None:
    connection = api.client.connection()
    parts = iter([b'{"tit', b'le": "', b"x" * 200, b'"}'])
    connection.request("POST", "/v1/tasks", parts, dict(api.metadata), encode_chunked=True)
    assert json.loads(connection.getresponse().read())["title"] == "x" * 200
    connection.close()


def test_a_body_that_nobody_asked_for_is_refused_unless_there_is_nothing_in_it(api: RestApi) -> None:
    path = f"/v1/tasks/{api.create().id}"
    for method, target in (("GET", path), ("POST", f"{path}:complete"), ("DELETE", path)):
        refused = api.send(method, target, {"etag": "9"})
        assert (refused.status, refused.reason) == (400, "BODY_UNEXPECTED")
        assert api.send(method, target, {}).status == 200


# Who is calling, and how long it may take


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/tasks", None),
        ("GET", "/v1/tasks?unknown=1", None),
        ("GET", "/v1/tasks/%ff", None),
        ("POST", "/v1/tasks", "no JSON"),
        ("POST", "/v1/tasks", '{"title": 5}'),
        ("POST", "/v1/tasks", " " * 70_000),
    ],
)
def test_who_calls_is_asked_before_what_is_asked_for(client: Client, method: str, path: str, body: str | None) -> None:
    answer = client.send(method, path, {"grpc-timeout": "nonsense", "content-type": "text/plain"}, body)
    assert (answer.status, answer.reason) == (401, "CALLER_MISSING")
    assert answer.headers["www-authenticate"] == 'X-User-Id realm="taskwell"'


@pytest.mark.parametrize("timeout", ["", "1", "S", "1s", "-1S", "1.5S", "123456789S", "1S,1S", "1 S", "\u0661S"])
def test_a_timeout_that_is_none_is_refused(api: RestApi, timeout: str) -> None:
    answer = api.client.send(
        "GET", "/v1/tasks", {**dict(api.metadata), "grpc-timeout": timeout.encode().decode("latin-1")}
    )
    assert (answer.status, answer.reason) == (400, "HEADER_INVALID")


@pytest.mark.parametrize("timeout", ["0n", "0S", "1n", "0H"])
def test_a_timeout_ends_the_call(api: RestApi, timeout: str) -> None:
    answer = api.send("GET", "/v1/tasks", headers=[("grpc-timeout", timeout)])
    assert (answer.status, answer.reason) == (504, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("timeout", ["99999999H", "1M", "60S", "30000m", "30000000u", "99999999n"])
def test_a_timeout_that_does_not_pass_changes_nothing(api: RestApi, timeout: str) -> None:
    expected = 504 if timeout.endswith("n") else 200
    assert api.send("GET", "/v1/tasks", headers=[("grpc-timeout", timeout)]).status in {200, expected}


def test_the_caller_is_checked_before_the_body_arrives(client: Client) -> None:
    with client.socket() as connection:
        head = "POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000\r\nexpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_rate_limit_counts_a_request_with_a_body_once(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url, rest_address=ANY_PORT, rate_limit=0.01, rate_burst=2)
    with running_addresses(settings) as addresses:
        client = Client(addresses.rest)
        api, body = RestApi(client), {"title": "x", "description": "y" * 5000}
        assert [api.send("POST", "/v1/tasks", body).status for _ in range(3)] == [200, 200, 429]
        client.close()


def test_rate_limit_refuses_with_the_time_to_come_again(limited: Client) -> None:
    hasty, other = RestApi(limited), RestApi(limited)
    assert hasty.send("GET", "/v1/tasks").status == 200
    refused = hasty.send("GET", "/v1/tasks")
    assert (refused.status, refused.reason) == (429, "RATE_LIMITED")
    assert 60 < int(refused.headers["retry-after"]) <= 100
    assert hasty.send("POST", "/v1/tasks", "no JSON").status == 429, "what is refused counts as well"
    assert other.send("GET", "/v1/tasks").status == 200


# Probes


def test_probes_need_no_caller(client: Client) -> None:
    alive, ready = client.send("GET", "/healthz"), client.send("GET", "/readyz")
    assert (alive.status, alive.json, alive.headers["cache-control"]) == (200, {"status": "alive"}, "no-store")
    assert (ready.status, ready.json, ready.headers["cache-control"]) == (200, {"status": "SERVING"}, "no-store")


def test_grpc_and_rest_lead_to_the_same_tasks(addresses: Addresses, api: RestApi) -> None:
    with grpc.insecure_channel(addresses.grpc) as channel:
        other = Api(channel, api.user)
        assert [api.create("From here")] == list(other.list().tasks)
        assert [other.create("From there"), *api.list().tasks[1:]] == list(api.list().tasks)
        assert Api(channel, new_user()).list() == RestApi(api.client).list()
