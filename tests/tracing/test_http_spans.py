"""The server span of a REST request, as the semantic conventions for HTTP have it."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from tests.running import DEADLINE, new_user
from tests.tracing.traced import Trace, TracedService, attributes_of
from tests.waiting import until

MISSING = "01a1fd9a-2d17-73ac-9e00-4a78b57254ae"


def send(
    service: TracedService, trace: Trace, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}
) -> int:
    """Send a request of a new user that belongs to a trace. Returns the status."""
    connection = http.client.HTTPConnection(service.addresses.rest, timeout=DEADLINE)
    name, value = trace.header
    content = None if body is None else json.dumps(body).encode()
    connection.request(method, path, content, {"x-user-id": new_user(), name: value, **headers})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def test_a_request_is_one_server_span_with_its_route_and_its_call(traced: TracedService) -> None:
    trace = Trace()
    assert send(traced, trace, "POST", "/v1/tasks", {"title": "Buy milk"}, {"tracestate": "vendor=1"}) == 200
    span = traced.server_span(trace)
    assert (span.name, span.kind) == ("POST /v1/tasks", SpanKind.SERVER)
    assert span.parent
    assert f"{span.parent.span_id:016x}" == trace.span_id
    assert span.parent.trace_state.to_header() == "vendor=1"
    attributes = attributes_of(span)
    assert isinstance(attributes.pop("network.peer.port"), int)
    assert attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/tasks",
        "http.response.status_code": 200,
        "url.path": "/v1/tasks",
        "url.scheme": "http",
        "rpc.method": "taskwell.v1.TaskService/CreateTask",
        "rpc.response.status_code": "OK",
        "server.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "network.protocol.version": "1.1",
    }


def test_an_error_of_the_client_is_no_error_of_the_span(traced: TracedService) -> None:
    trace = Trace()
    assert send(traced, trace, "GET", f"/v1/tasks/{MISSING}") == 404
    span = traced.server_span(trace)
    attributes = attributes_of(span)
    assert span.name == "GET /v1/tasks/{id}"
    assert (attributes["http.response.status_code"], attributes["rpc.response.status_code"]) == (404, "NOT_FOUND")
    assert span.status.status_code is StatusCode.UNSET
    assert MISSING not in span.to_json()


def test_the_query_is_not_in_the_span(traced: TracedService) -> None:
    trace = Trace()
    assert send(traced, trace, "GET", "/v1/tasks?pageToken=secret") == 400
    assert "secret" not in traced.server_span(trace).to_json()


def test_an_error_of_the_service_is_one_of_the_span(traced: TracedService, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("details that belong into the log")

    monkeypatch.setattr("service.tasks.methods.Tasks.get", fails)
    trace = Trace()
    assert send(traced, trace, "GET", f"/v1/tasks/{MISSING}") == 500
    span = traced.server_span(trace)
    assert attributes_of(span)["error.type"] == "500"
    assert span.status.status_code is StatusCode.ERROR
    assert "details" not in span.to_json()


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/nothing/here", 404, "GET"),
        ("PURGE", "/v1/tasks", 405, "HTTP"),
        ("POST", "/v1/tasks", 401, "POST /v1/tasks"),
    ],
)
def test_a_request_that_never_becomes_a_call_has_a_span(
    traced: TracedService, method: str, path: str, status: int, name: str
) -> None:
    trace = Trace()
    assert send(traced, trace, method, path, headers={"x-user-id": ""} if status == 401 else {}) == status
    span = traced.server_span(trace)
    assert (span.name, attributes_of(span)["http.response.status_code"]) == (name, status)
    assert "nothing" not in span.to_json()
    assert "PURGE" not in span.to_json()


def test_health_checks_and_pages_have_no_span(traced: TracedService) -> None:
    trace = Trace()
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
        assert send(traced, trace, "GET", path) == 200
    send(traced, trace, "GET", "/v1/tasks")
    assert traced.server_span(trace).name == "GET /v1/tasks"


def test_two_traceparents_begin_a_new_trace(traced: TracedService) -> None:
    one, other = Trace(), Trace()
    host, _, port = traced.addresses.rest.rpartition(":")
    before = len(traced.exporter.get_finished_spans())
    head = "".join(f"{name}: {value}\r\n" for name, value in (one.header, other.header))
    with socket.create_connection((host, int(port)), timeout=DEADLINE) as connection:
        connection.sendall(f"GET /v1/tasks HTTP/1.1\r\nhost: localhost\r\nx-user-id: a\r\n{head}\r\n".encode())
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    until(lambda: len(traced.exporter.get_finished_spans()) > before)
    assert not traced.spans(one)
    assert not traced.spans(other)


def test_a_request_that_the_client_gives_up_is_an_error_of_its_span(
    traced: TracedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    async def lasts(*_: object) -> None:
        begun.set()
        await asyncio.sleep(DEADLINE)

    monkeypatch.setattr("service.tasks.methods.Tasks.get", lasts)
    trace = Trace()
    host, _, port = traced.addresses.rest.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=DEADLINE) as connection:
        name, value = trace.header
        head = f"GET /v1/tasks/{MISSING} HTTP/1.1\r\nhost: localhost\r\nx-user-id: a\r\n{name}: {value}\r\n\r\n"
        connection.sendall(head.encode())
        assert begun.wait(DEADLINE)
    span = traced.server_span(trace)
    attributes = attributes_of(span)
    assert (attributes["error.type"], attributes["rpc.response.status_code"]) == ("cancelled", "CANCELLED")
    assert "http.response.status_code" not in attributes
