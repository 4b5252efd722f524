"""The request id: every HTTP response has it, whatever the request came to."""

from collections.abc import Mapping

import pytest

from tests.rest.client import Client

ALICE = {"x-user-id": "alice"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/v1/tasks", ALICE, None, 200),
        ("POST", "/v1/tasks", ALICE, '{"title": "Buy milk"}', 200),
        ("GET", "/v1/tasks/01900000-0000-7000-8000-000000000000", ALICE, None, 404),
        ("GET", "/v1/tasks", {}, None, 401),
        ("POST", "/v1/tasks", ALICE, "{", 400),
        ("GET", "/v1/tasks?pageSize=-1", ALICE, None, 400),
        ("GET", "/nowhere", ALICE, None, 404),
        ("TRACE", "/v1/tasks", ALICE, None, 405),
        ("OPTIONS", "/v1/tasks", {}, None, 204),
        ("GET", "/v1/tasks", {**ALICE, "host": "evil.example"}, None, 421),
        ("GET", "/v1/tasks", {**ALICE, "big": "x" * 17_000}, None, 431),
        ("GET", "/readyz", {}, None, 200),
        ("GET", "/openapi.json", {}, None, 200),
    ],
)
def test_every_response_has_the_request_id_of_its_request_or_a_new_one(
    client: Client, method: str, path: str, headers: Mapping[str, str], body: str | None, status: int
) -> None:
    given = client.send(method, path, {**headers, "x-request-id": "order 4711/2"}, body)
    assert (given.status, given.headers["x-request-id"]) == (status, "order 4711/2")
    made = [client.send(method, path, {**headers, **bad}, body) for bad in ({}, {"x-request-id": "\xe9"})]
    ids = {each.headers["x-request-id"] for each in made}
    assert len(ids) == 2
    assert all(0 < len(each) < 40 and each.isascii() for each in ids)
