"""Retries of the Python client, as a real server with a script sees them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from grpc import StatusCode
from taskwell.v1 import tasks_pb2
from taskwell_client import COMPLETE, TaskwellError, Unavailable
from taskwell_client import connect as connect_sync

from tests.clients.clients import Connect
from tests.clients.scripted import Scripted, scripted_server
from tests.waiting import until


def raised(outcomes: list[Any]) -> Any:
    """The outcome of the only call of several, raised if it is an error."""
    [outcome] = outcomes
    if isinstance(outcome, TaskwellError):
        raise outcome
    return outcome


SAFE: dict[str, Callable[[Any], Any]] = {
    "create": lambda client: client.create("Buy milk"),
    "get": lambda client: client.get("1"),
    "list": lambda client: list(client.list()),
    "page": lambda client: client.page(),
    "update": lambda client: client.update("1", status=COMPLETE),
    "complete": lambda client: client.complete("1"),
    "create_many": lambda client: client.create_many(["Buy milk"]),
    "get_many": lambda client: client.get_many(["1"]),
    "complete_many": lambda client: client.complete_many(["1"]),
    "delete_many what may be missing": lambda client: client.delete_many(["1"], allow_missing=True),
    "delete what may be missing": lambda client: client.delete("1", allow_missing=True),
}
UNSAFE: dict[str, Callable[[Any], Any]] = {
    "update with an etag": lambda client: client.update("1", title="Buy milk", etag="1"),
    "complete with an etag": lambda client: client.complete("1", etag="1"),
    "delete": lambda client: client.delete("1"),
    "delete_many": lambda client: raised(client.delete_many(["1"])),
    "delete with an etag what may be missing": lambda client: client.delete("1", etag="1", allow_missing=True),
}
RETRIED = {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
FINAL = sorted(set(StatusCode) - {StatusCode.OK, *RETRIED}, key=lambda code: code.value[0])


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted_server() as server:
        yield server


@pytest.mark.parametrize("name", SAFE)
def test_what_is_safe_to_send_again_is_sent_again(connect: Connect, server: Scripted, name: str) -> None:
    server.answers(StatusCode.UNAVAILABLE, StatusCode.CANCELLED, b"")
    SAFE[name](connect(server.address, user="alice"))
    assert len(server.attempts) == 3
    assert len(set(server.attempts)) == 1  # word for word


def test_a_create_is_sent_again_under_the_same_request_id(connect: Connect, server: Scripted) -> None:
    server.answers(StatusCode.UNAVAILABLE, b"")
    client = connect(server.address, user="alice")
    client.create("Buy milk")
    client.create("Buy milk")
    ids = [tasks_pb2.CreateTaskRequest.FromString(request).request_id for _, request in server.attempts]
    assert ids[0] == ids[1] != ids[2]
    assert [UUID(each).version for each in ids[1:]] == [4, 4]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("code", RETRIED, ids=lambda code: code.name)
def test_what_might_be_done_twice_is_not_sent_again(
    connect: Connect, server: Scripted, name: str, code: StatusCode
) -> None:
    server.answers(code, b"")
    with pytest.raises(TaskwellError) as caught:
        UNSAFE[name](connect(server.address, user="alice"))
    assert caught.value.code is code
    assert len(server.attempts) == 1


def test_nothing_is_sent_more_than_four_times(connect: Connect, server: Scripted) -> None:
    server.answers(StatusCode.UNAVAILABLE)
    with pytest.raises(Unavailable, match="as the script says"):
        connect(server.address, user="alice").get("1")
    assert len(server.attempts) == 4


@pytest.mark.parametrize("code", FINAL, ids=lambda code: code.name)
def test_no_other_failure_is_asked_about_twice(server: Scripted, code: StatusCode) -> None:
    server.answers(code, b"")
    with connect_sync(server.address, user="alice") as client, pytest.raises(TaskwellError) as caught:
        client.get("1")
    assert (code, "as the script says") == (caught.value.code, caught.value.message)
    assert len(server.attempts) == 1


def test_a_service_that_is_down_is_not_asked_four_times_by_everybody(server: Scripted) -> None:
    calls = 120

    def fail(client: Any) -> None:
        with pytest.raises(Unavailable):
            client.get("1")

    server.answers(StatusCode.UNAVAILABLE)
    with connect_sync(server.address, user="alice") as client, ThreadPoolExecutor(calls) as pool:
        list(pool.map(fail, [client] * calls))
    assert calls <= len(server.attempts) < 2 * calls


def test_a_call_has_ten_seconds_or_what_it_is_given(connect: Connect, server: Scripted) -> None:
    connect(server.address, user="alice").get("1")
    connect(server.address, user="alice", timeout=100).get("1")
    connect(server.address, user="alice").get("1", timeout=1000)
    for timeout, remaining in zip((10, 100, 1000), server.remaining, strict=True):
        assert timeout / 2 < remaining < timeout * 1.1  # gRPC sends it in two or three digits, rounded up


def test_calls_go_to_all_addresses_in_turn_and_around_one_that_fails(connect: Connect) -> None:
    with scripted_server() as one, scripted_server() as other:
        client = connect(f"ipv4:{one.address},{other.address}", user="alice")
        until(lambda: client.get("1") is not None and bool(one.attempts and other.attempts))
        one.answers(b"")
        other.answers(b"")
        for _ in range(10):
            client.get("1")
        assert [len(one.attempts), len(other.attempts)] == [5, 5]
        other.answers(StatusCode.UNAVAILABLE)
        for _ in range(4):
            client.get("1")
        assert other.attempts
