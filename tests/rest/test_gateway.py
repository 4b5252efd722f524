"""The gateway without a server: the metadata that it forwards, internal errors, health checks, in-process calls."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import StatusCode
from grpc.aio import AioRpcError
from grpc_health.v1.health_pb2 import HealthCheckResponse
from taskwell.v1 import tasks_pb2

from service.readiness import Readiness
from service.rest.gateway import Gateway, Rules
from service.rest.health_checks import health_checks
from service.rest.routes import Routes
from service.server.app import Service
from tests.running import settings_for

ROUTES = Routes(*tasks_pb2.DESCRIPTOR.services_by_name.values())
FORWARDED = {b"x-user-id": "x-user-id", b"traceparent": "traceparent"}
RULES = Rules(FORWARDED, b"X-User-Id", None, max_head_bytes=10_000, max_body_bytes=1000, body_seconds=10)


class Calls:
    """Answers every call with the same message, or fails, and remembers what it was called with."""

    def __init__(self, answer: Message | Exception) -> None:
        self._answer = answer
        self.made: list[tuple[str, list[tuple[str, str]], float | None]] = []

    async def call(
        self,
        method: str,
        request: bytes,  # noqa: ARG002
        metadata: Sequence[tuple[str, str]],
        seconds: float | None,
    ) -> Message:
        self.made.append((method, list(metadata), seconds))
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    async def admit(self, method: str, metadata: Sequence[tuple[str, str]], *, counts: bool) -> str | None:
        raise NotImplementedError


def gateway(calls: Any, readiness: Readiness | None = None) -> Gateway:
    return Gateway(ROUTES, calls, RULES, health_checks(readiness or Readiness()))


async def asked(app: Any, path: str, *headers: tuple[str, str]) -> tuple[int, Any]:
    """What the gateway answers to a GET."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({**scope, "headers": raw}, None, send)
    start, body = sent
    return start["status"], json.loads(body["body"])


async def test_listed_headers_are_forwarded_with_duplicates_and_no_others() -> None:
    calls = Calls(tasks_pb2.ListTasksResponse())
    given = [
        ("X-User-Id", "alice"),
        ("traceparent", "00-0-0-00"),
        ("x-request-id", "7"),
        ("x-user-id", "bob\xe9"),
        ("authorization", "Bearer x"),
        ("grpc-metadata-x-user-id", "eve"),
        ("x-user-id-bin", "eve"),
        ("cookie", "x"),
        ("tracestate", "x"),
        ("baggage", "x"),
        ("x-forwarded-for", "x"),
        ("grpc-timeout", "1500m"),
        ("user-agent", "x"),
        ("te", "trailers"),
        ("grpc-accept-encoding", "gzip"),
    ]
    assert (await asked(gateway(calls), "/v1/tasks", *given))[0] == 200
    metadata = [("x-user-id", "alice"), ("traceparent", "00-0-0-00"), ("x-user-id", "bob\xe9"), ("x-request-id", "7")]
    assert calls.made == [("/taskwell.v1.TaskService/ListTasks", metadata, 1.5)]


async def test_an_internal_error_is_a_500_without_details() -> None:
    status, body = await asked(gateway(Calls(RuntimeError("the secret"))), "/v1/tasks")
    assert (status, body["code"], body["details"][0]["reason"]) == (500, StatusCode.INTERNAL.value[0], "INTERNAL")
    assert "it was logged under the id" in body["message"]
    assert "secret" not in json.dumps(body)


async def test_readyz_names_the_reasons_against_readiness_without_their_details() -> None:
    readiness = Readiness()
    app = gateway(Calls(HealthCheckResponse()), readiness)
    assert await asked(app, "/readyz") == (200, {"status": "SERVING"})
    readiness.block("the disk is full", "of host 10.0.0.1")
    readiness.block("the server is starting")
    expected = {"status": "NOT_SERVING", "reasons": ["the disk is full", "the server is starting"]}
    assert await asked(app, "/readyz") == (503, expected)
    assert await asked(app, "/healthz") == (200, {"status": "alive"})
    readiness.unblock("the disk is full")
    readiness.unblock("the server is starting")
    assert await asked(app, "/readyz") == (200, {"status": "SERVING"})


async def test_a_call_in_the_process_meets_the_interceptor(sqlite_url: str) -> None:
    service = Service(settings_for(sqlite_url, rest_address="127.0.0.1:0"))
    assert service._rest
    calls = service._rest._gateway._calls
    for method, metadata, code in (
        ("/taskwell.v1.TaskService/NoSuchMethod", [("x-user-id", "alice")], StatusCode.UNIMPLEMENTED),
        ("/no.such.Service/Method", [("x-user-id", "alice")], StatusCode.UNIMPLEMENTED),
        ("/taskwell.v1.TaskService/ListTasks", [], StatusCode.UNAUTHENTICATED),
        ("/taskwell.v1.TaskService/ListTasks", [("x-user-id", "a"), ("x-user-id", "a")], StatusCode.UNAUTHENTICATED),
    ):
        with pytest.raises(AioRpcError) as refused:
            await calls.call(method, b"", metadata, None)
        assert refused.value.code() is code
        assert dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
        if code is StatusCode.UNAUTHENTICATED:
            with pytest.raises(AioRpcError) as not_admitted:
                await calls.admit(method, metadata, counts=True)
            assert not_admitted.value.code() is code
    with pytest.raises(AioRpcError) as late:
        await calls.call("/taskwell.v1.TaskService/ListTasks", b"", [("x-user-id", "alice")], 0.0)
    assert late.value.code() is StatusCode.DEADLINE_EXCEEDED
    assert await calls.admit("/taskwell.v1.TaskService/ListTasks", [("x-user-id", "alice")], counts=True) == "alice"
