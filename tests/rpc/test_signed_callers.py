"""Authentication by signed tokens, through a real server."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from taskwell.v1 import tasks_pb2

from service.auth import keys as keys_module
from service.server.app import Service
from service.server.startup import StartError
from tests.auth.hostile import hostile_tokens
from tests.auth.issuing import ALGORITHMS, AUDIENCE, ISSUER, KeyPairs, publishing
from tests.methods import METHODS, well_formed
from tests.rpc.given import ask_reflection, raw_call
from tests.running import Api, new_user, refusal_of, refused, running_service, settings_for
from tests.waiting import until

READING = {"GetTask", "ListTasks"}


@pytest.fixture(scope="module")
def keys() -> KeyPairs:
    return KeyPairs()


@pytest.fixture(scope="module")
def jwks(keys: KeyPairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("issuer") / "jwks.json"
    path.write_bytes(keys.published())
    return path


def in_jwt_mode(url: str, jwks: object, **more: Any) -> Any:
    return settings_for(url, auth="jwt", jwt_jwks=str(jwks), jwt_issuer=ISSUER, jwt_audience=AUDIENCE, **more)


@pytest.fixture(scope="module")
def with_tokens(sqlite_url: str, jwks: Path) -> Iterator[grpc.Channel]:
    """A channel to a service whose callers have tokens; reflection needs one too."""
    settings = in_jwt_mode(sqlite_url, jwks, reflection="caller")
    with running_service(settings) as address, grpc.insecure_channel(address) as channel:
        yield channel


@pytest.fixture(scope="module")
def with_scopes(sqlite_url: str, jwks: Path) -> Iterator[grpc.Channel]:
    """A channel to a service that asks tokens for scopes, of its own names."""
    names = {"jwt_scope_claim": "permissions", "jwt_read_scope": "read:tasks", "jwt_write_scope": "write:tasks"}
    settings = in_jwt_mode(sqlite_url, jwks, reflection="caller", **names)
    with running_service(settings) as address, grpc.insecure_channel(address) as channel:
        yield channel


def token_of(keys: KeyPairs, user: str, **claims: Any) -> str:
    return keys.token(now=time.time(), sub=user, **claims)


@pytest.mark.parametrize("method", METHODS)
def test_the_subject_of_a_token_may_use_every_method(with_tokens: grpc.Channel, keys: KeyPairs, method: str) -> None:
    api = Api(with_tokens, token=token_of(keys, new_user()))
    api.call(method, well_formed(method, api.create().id))


@pytest.mark.parametrize("method", METHODS)
def test_without_a_token_no_method_may_be_used(with_tokens: grpc.Channel, method: str) -> None:
    request = well_formed(method, str(uuid4()))
    with refused(StatusCode.UNAUTHENTICATED, "TOKEN_MISSING") as refusal:
        Api(with_tokens, new_user()).call(method, request)
    assert "authorization" in refusal.message
    for garbage in (b"\xff", bytes(100_000)):
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
            raw_call(with_tokens, method, garbage).result()


def test_users_of_tokens_are_kept_apart_and_x_user_id_means_nothing(with_tokens: grpc.Channel, keys: KeyPairs) -> None:
    alice, bob = new_user(), new_user()
    task = Api(with_tokens, token=token_of(keys, alice)).create()
    spoof = Api(with_tokens, token=token_of(keys, bob))
    spoof.metadata.append(("x-user-id", alice))
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        spoof.get(task.id)
    assert tasks_pb2.ListTasksResponse() == spoof.list()


@pytest.mark.parametrize("more", [("authorization", "Basic YWxpY2U6"), ("authorization-bin", b"x")])
def test_a_second_authorization_is_refused(with_tokens: grpc.Channel, keys: KeyPairs, more: Any) -> None:
    token = ("authorization", f"Bearer {token_of(keys, 'alice')}")
    for metadata in ([token, more], [more, token], [token, token]):
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_MALFORMED"):
            raw_call(with_tokens, "ListTasks", b"", more=metadata).result()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_health_needs_no_token_and_reflection_does_where_it_needs_a_caller(
    with_tokens: grpc.Channel, version: str
) -> None:
    health: Any = health_pb2_grpc.HealthStub(with_tokens)
    serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
    assert serving == health.Check(health_pb2.HealthCheckRequest())
    with refused(StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
        ask_reflection(with_tokens, version, user="alice", list_services="")


# Hostile tokens


def can_be_sent(token: str) -> bool:
    """True for a value that gRPC's client sends unchanged: printable ASCII without trailing spaces."""
    return token.isascii() and token.isprintable() and token == token.rstrip()


def answer_to(channel: grpc.Channel, token: str) -> Any:
    """The outcome of a call with this token."""
    call = Api(channel, token=token).start("ListTasks", tasks_pb2.ListTasksRequest())
    return call.exception() or call.result()


def test_no_server_takes_a_hostile_token(with_tokens: grpc.Channel, keys: KeyPairs) -> None:
    now = time.time()
    hostile = [each for each in hostile_tokens(keys, KeyPairs(), now) if can_be_sent(each.token)]
    assert len(hostile) >= 200
    answers = {each.wrong: answer_to(with_tokens, each.token) for each in hostile}
    assert {StatusCode.UNAUTHENTICATED} == {answer.code() for answer in answers.values()}
    expected = {each.wrong: each.reason for each in hostile}
    assert expected == {wrong: refusal_of(answer).reason for wrong, answer in answers.items()}
    for kind in ALGORITHMS:
        good = keys.token(kind, now=now, sub=new_user())
        assert tasks_pb2.ListTasksResponse() == answer_to(with_tokens, good)


# Scopes


@pytest.mark.parametrize("method", METHODS)
def test_a_token_with_the_scope_of_a_method_may_use_it_and_no_other_may(
    with_scopes: grpc.Channel, keys: KeyPairs, method: str
) -> None:
    user = new_user()
    needed, other = ("read:tasks", "write:tasks") if method in READING else ("write:tasks", "read:tasks")
    task = Api(with_scopes, token=token_of(keys, user, permissions="write:tasks")).create()
    for scopes in (other, "", ..., "tasks.read tasks.write", needed.upper(), f"{needed}:all"):
        token = token_of(keys, user, permissions=scopes, scope="read:tasks write:tasks")
        with refused(StatusCode.PERMISSION_DENIED, "SCOPE_MISSING") as refusal:
            Api(with_scopes, token=token).call(method, well_formed(method, task.id))
        assert needed in refusal.message
        assert refusal.metadata == {"scope": needed}
    token = token_of(keys, user, permissions=f"openid {needed}")
    Api(with_scopes, token=token).call(method, well_formed(method, task.id))


def test_scopes_are_not_asked_for_unless_they_are_set_up(with_tokens: grpc.Channel, keys: KeyPairs) -> None:
    Api(with_tokens, token=token_of(keys, new_user(), scope="nothing", permissions="")).create()


# The issuer


def test_the_keys_are_fetched_before_anybody_calls(sqlite_url: str, keys: KeyPairs) -> None:
    with publishing(keys.published()) as publisher, running_service(in_jwt_mode(sqlite_url, publisher.url)) as address:
        until(lambda: publisher.asked == 1)
        with grpc.insecure_channel(address) as channel:
            Api(channel, token=token_of(keys, new_user())).list()
        assert publisher.asked == 1


def test_calls_are_unavailable_until_the_issuer_could_be_reached(
    sqlite_url: str, keys: KeyPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "_FIRST_INTERVAL", 0.01)
    with publishing(keys.published()) as publisher:
        publisher.status = 503
        settings = in_jwt_mode(sqlite_url, publisher.url)
        with running_service(settings) as address, grpc.insecure_channel(address) as channel:
            api = Api(channel, token=token_of(keys, new_user()))
            with refused(StatusCode.UNAVAILABLE, "KEYS_UNAVAILABLE") as refusal:
                api.list()
            assert refusal.retry_delay == 1
            publisher.status = 200
            until(lambda: grpc.StatusCode.OK is api.start("ListTasks", tasks_pb2.ListTasksRequest()).code())


async def test_a_file_without_keys_stops_the_start(sqlite_url: str, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text('{"keys": []}')
    with pytest.raises(StartError, match=r"TASKWELL_JWT_JWKS: .*not a JWKS"):
        await Service(in_jwt_mode(sqlite_url, path)).start()
