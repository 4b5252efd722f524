"""Authentication by metadata, which comes before every other check."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from service.auth.metadata import caller_from_metadata
from service.errors import CallerInvalid, CallerMissing
from service.model import Caller
from tests.conftest import DATABASES
from tests.methods import METHODS, well_formed
from tests.rpc.given import Rows, ask_reflection, raw_call
from tests.running import Api, new_user, refused, running_service, settings_for

NO_TASK = "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234"

Metadata = list[tuple[str, str | bytes]]


def list_as(channel: grpc.Channel, metadata: Metadata) -> tasks_pb2.ListTasksResponse:
    stub = tasks_pb2_grpc.TaskServiceStub(channel)
    return stub.ListTasks(tasks_pb2.ListTasksRequest(), metadata=tuple(metadata))


# The name


@pytest.mark.parametrize("user", ["a", "0", "!", "~", "a,b", "a@example.com", "auth0|5f7c8e", "';--", "x" * 255])
def test_1_to_255_printable_ascii_characters_name_a_user(channel: grpc.Channel, user: str) -> None:
    task = Api(channel, user).create()
    assert task in Api(channel, user).list().tasks
    assert task == Api(channel, user).get(task.id)


def test_user_ids_are_compared_byte_by_byte(channel: grpc.Channel) -> None:
    name = f"Alice-{uuid4()}"
    names = [name, name.lower(), name.upper(), name.replace("-", "_"), f"{name}.", name[:-1], "%", "Alice%"]
    tasks = {name: Api(channel, name).create(name) for name in names}
    for name, task in tasks.items():
        assert {name} == {each.title for each in Api(channel, name).walk()}
        for other in set(names) - {name}:
            with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
                Api(channel, other).get(task.id)


@pytest.mark.parametrize("metadata", [[], [("x-user-id-bin", b"alice")], [("x-user", "alice"), ("user-id", "alice")]])
def test_a_call_without_a_user_is_unauthenticated(channel: grpc.Channel, metadata: Metadata) -> None:
    with refused(StatusCode.UNAUTHENTICATED, "CALLER_MISSING") as refusal:
        list_as(channel, metadata)
    assert "x-user-id" in refusal.message


@pytest.mark.parametrize("user", ["", " ", "alice bob", " alice", "alice ", "alice, bob", "x" * 256, "x" * 4000])
def test_any_other_name_is_refused(channel: grpc.Channel, user: str) -> None:
    with refused(StatusCode.UNAUTHENTICATED, "CALLER_INVALID") as refusal:
        list_as(channel, [("x-user-id", user)])
    assert "x-user-id" in refusal.message


@pytest.mark.parametrize("users", [("alice", "alice"), ("alice", "bob"), ("", "alice"), ("a", "b", "c")])
def test_a_user_named_more_than_once_is_refused(channel: grpc.Channel, users: tuple[str, ...]) -> None:
    with refused(StatusCode.UNAUTHENTICATED, "CALLER_INVALID"):
        list_as(channel, [("x-user-id", user) for user in users])


def test_a_binary_user_id_beside_the_right_one_is_ignored(channel: grpc.Channel) -> None:
    user = new_user()
    task = Api(channel, user).create()
    assert [task] == list(list_as(channel, [("x-user-id-bin", b"bob"), ("x-user-id", user)]).tasks)


@pytest.mark.parametrize("user", ["a\0", "\0", "a\tb", "a\n", "\x1b", "\x7f", "\x80", "é", "\uff41", "😀", b"alice"])
def test_what_grpcs_own_client_does_not_send_is_refused_too(user: str | bytes) -> None:
    with pytest.raises(CallerInvalid):
        caller_from_metadata([("x-user-id", user)])


def test_a_caller_is_the_value_of_the_one_key() -> None:
    assert Caller("alice") == caller_from_metadata([("x-user", "eve"), ("x-user-id", "alice"), ("x-user-id-bin", b"")])
    with pytest.raises(CallerMissing):
        caller_from_metadata([("X-User-Id", "alice")])  # no HTTP/2 client may send capitals


# Before anything else


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "request_bytes", [b"", b"\xff", b"\x0a\xff", bytes(100_000)], ids=["bad", "garbage", "cut off", "large"]
)
def test_who_calls_is_asked_before_what_is_asked_for(channel: grpc.Channel, method: str, request_bytes: bytes) -> None:
    with refused(StatusCode.UNAUTHENTICATED, "CALLER_MISSING"):
        raw_call(channel, method, request_bytes).result()
    with refused(StatusCode.UNAUTHENTICATED, "CALLER_INVALID"):
        raw_call(channel, method, request_bytes, user="alice bob").result()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_asks_for_a_caller(channel: grpc.Channel, method: str) -> None:
    with refused(StatusCode.UNAUTHENTICATED, "CALLER_MISSING"):
        raw_call(channel, method, well_formed(method, NO_TASK).SerializeToString()).result()


def test_health_needs_no_caller(channel: grpc.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
    for service in ("", "taskwell.v1.TaskService"):
        request = health_pb2.HealthCheckRequest(service=service)
        assert serving == health.Check(request)
        watch = health.Watch(request)
        assert serving == next(watch)
        watch.cancel()


# Users that must be known


@pytest.fixture(scope="module", params=DATABASES)
def where_users_are_known(request: pytest.FixtureRequest) -> Iterator[tuple[grpc.Channel, Rows]]:
    """A channel to a service that serves only users with a row, and the rows."""
    url = request.getfixturevalue(f"{request.param}_url")
    with running_service(settings_for(url, users="known")) as address, grpc.insecure_channel(address) as channel:
        yield channel, Rows(url)


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_caller_may_use_no_method(where_users_are_known: tuple[grpc.Channel, Rows], method: str) -> None:
    channel, rows = where_users_are_known
    known = new_user()
    rows.insert_user(known)
    task = Api(channel, known).create()
    for task_id in (NO_TASK, task.id):
        with refused(StatusCode.PERMISSION_DENIED, "CALLER_UNKNOWN"):
            Api(channel).call(method, well_formed(method, task_id))
    assert [task] == list(Api(channel, known).list().tasks)


@pytest.mark.parametrize("method", METHODS)
def test_a_known_caller_may_use_every_method(where_users_are_known: tuple[grpc.Channel, Rows], method: str) -> None:
    channel, rows = where_users_are_known
    api = Api(channel)
    rows.insert_user(api.user)
    api.call(method, well_formed(method, api.create().id))


def test_a_known_caller_without_tasks_is_told_so(where_users_are_known: tuple[grpc.Channel, Rows]) -> None:
    channel, rows = where_users_are_known
    api = Api(channel)
    rows.insert_user(api.user)
    assert tasks_pb2.ListTasksResponse() == api.list()
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.get(NO_TASK)
    api.delete(NO_TASK, allow_missing=True)


def test_a_caller_is_known_from_the_moment_their_row_is_there(
    where_users_are_known: tuple[grpc.Channel, Rows],
) -> None:
    channel, rows = where_users_are_known
    api = Api(channel)
    with refused(StatusCode.PERMISSION_DENIED, "CALLER_UNKNOWN"):
        api.create()
    rows.insert_user(api.user)
    assert [api.create()] == list(api.list().tasks)


def test_known_users_are_compared_byte_by_byte(where_users_are_known: tuple[grpc.Channel, Rows]) -> None:
    channel, rows = where_users_are_known
    user = new_user()
    rows.insert_user(user)
    with refused(StatusCode.PERMISSION_DENIED, "CALLER_UNKNOWN"):
        Api(channel, user.upper()).create()


# Reflection


@contextmanager
def reflecting(database_url: str, reflection: str) -> Iterator[grpc.Channel]:
    settings = settings_for(database_url, reflection=reflection)
    with running_service(settings) as address, grpc.insecure_channel(address) as channel:
        yield channel


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_can_be_kept_for_those_who_name_a_user(sqlite_url: str, version: str) -> None:
    with reflecting(sqlite_url, "caller") as channel:
        with refused(StatusCode.UNAUTHENTICATED, "CALLER_MISSING"):
            ask_reflection(channel, version, list_services="")
        with refused(StatusCode.UNAUTHENTICATED, "CALLER_INVALID"):
            ask_reflection(channel, version, user="alice bob", list_services="")
        assert ask_reflection(channel, version, user="alice", list_services="").list_services_response.service


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_can_be_turned_off(sqlite_url: str, version: str) -> None:
    with reflecting(sqlite_url, "off") as channel:
        for user in (None, "alice"):
            with refused(StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN"):
                ask_reflection(channel, version, user=user, list_services="")
        assert list_as(channel, [("x-user-id", new_user())]) == tasks_pb2.ListTasksResponse()
