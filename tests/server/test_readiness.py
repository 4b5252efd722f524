"""Readiness: a server whose token issuer cannot be reached is not ready before it has read keys once."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.auth import keys as keys_module
from service.auth.jwks import KeysError
from service.server.authentication import check_keys
from tests.auth.issuing import AUDIENCE, ISSUER, KeyPairs, Publisher, publishing
from tests.running import running_addresses, settings_for
from tests.server.starting import run
from tests.waiting import until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NO_KEYS = "the keys that verify tokens have not been read"
JWT = {"auth": "jwt", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing(KeyPairs().published()) as publisher:
        yield publisher


def environment(jwks: object) -> dict[str, str]:
    return {f"TASKWELL_{name.upper()}": value for name, value in {**JWT, "jwt_jwks": str(jwks)}.items()}


def check(channel: grpc.Channel) -> Any:
    request = health_pb2.HealthCheckRequest()
    return health_pb2_grpc.HealthStub(channel).Check(request, timeout=30).status  # type: ignore[attr-defined]


def get(address: str, path: str) -> tuple[int, Any]:
    with closing(HTTPConnection(address, timeout=30)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_a_server_without_the_issuers_keys_is_alive_but_not_ready(
    sqlite_url: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "_FIRST_INTERVAL", 0.01)
    publisher.status = 503
    publisher.answers.clear()
    settings = settings_for(sqlite_url, rest_address="127.0.0.1:0", jwt_jwks=publisher.url, **JWT)
    with running_addresses(settings) as addresses, grpc.insecure_channel(addresses.grpc) as channel:
        request = health_pb2.HealthCheckRequest(service="taskwell.v1.TaskService")
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(request, timeout=120)
        assert next(watched).status == NOT_SERVING
        assert check(channel) == NOT_SERVING, "while the issuer does not answer"
        publisher.answers.set()
        until(lambda: publisher.asked > 2)
        assert check(channel) == NOT_SERVING
        assert get(addresses.rest, "/healthz") == (200, {"status": "alive"})
        assert get(addresses.rest, "/readyz") == (503, {"status": "NOT_SERVING", "reasons": [NO_KEYS]})
        publisher.status = 200
        assert next(watched).status == SERVING
        assert check(channel) == SERVING
        assert get(addresses.rest, "/readyz") == (200, {"status": "SERVING"})


def test_a_server_that_has_read_keys_stays_ready_when_the_issuer_is_away(
    sqlite_url: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "_FRESH_INTERVAL", 0.01)
    monkeypatch.setattr(keys_module, "REFRESH_INTERVAL", 0.01)
    settings = settings_for(sqlite_url, jwt_jwks=publisher.url, **JWT)
    with running_addresses(settings) as addresses, grpc.insecure_channel(addresses.grpc) as channel:
        until(lambda: check(channel) == SERVING)
        publisher.status = 503
        asked = publisher.asked
        until(lambda: publisher.asked > asked + 3)
        assert check(channel) == SERVING


@pytest.mark.parametrize(
    ("content", "status", "cause"),
    [
        (b"{}", 404, "the issuer does not answer with its keys: HTTP Error 404: Not Found"),
        (b"<html>", 200, "not a JWKS (RFC 7517)"),
        (b'{"keys": []}', 200, "not a JWKS (RFC 7517) with a public key"),
    ],
)
def test_keys_that_cannot_be_read_are_refused_with_their_url_and_the_cause(
    sqlite_url: str, publisher: Publisher, content: bytes, status: int, cause: str
) -> None:
    publisher.content, publisher.status = content, status
    with pytest.raises(KeysError) as refused:
        check_keys(settings_for(sqlite_url, jwt_jwks=publisher.url, **JWT))
    assert str(refused.value).startswith(f"TASKWELL_JWT_JWKS: {publisher.url}: {cause}")


def test_check_reads_the_keys_and_waits_for_them(folder: Path, publisher: Publisher) -> None:
    publisher.status = 503
    answer = run("check", folder=folder, **environment(publisher.url))
    assert (answer.returncode, answer.stdout) == (1, "")
    cause = "the issuer does not answer with its keys: HTTP Error 503: Service Unavailable"
    assert answer.stderr == f"taskwell: TASKWELL_JWT_JWKS: {publisher.url}: {cause}\n"

    def publish() -> bool:
        publisher.status = 200 if publisher.asked > 1 else 503
        return publisher.asked > 2

    waiting = threading.Thread(target=until, args=(publish,))
    waiting.start()
    answer = run("check", "--wait", "100", folder=folder, **environment(publisher.url))
    waiting.join()
    assert (answer.returncode, answer.stderr) == (0, "")
    assert f"the keys ({publisher.url})" in answer.stdout
