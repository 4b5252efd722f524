"""create_many, get_many, complete_many, delete_many: outcomes in order, errors per item, bounded calls in flight."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from grpc import StatusCode
from taskwell.v1.tasks_pb2 import GetTaskRequest, Task
from taskwell_client import (
    COMPLETE,
    AlreadyExists,
    Client,
    InvalidArgument,
    NewTask,
    NotFound,
    Unavailable,
)

from tests.clients.clients import Connect
from tests.clients.scripted import Scripted, scripted_server
from tests.running import new_user
from tests.waiting import eventually, until


@pytest.fixture
def client(connect: Connect, address: str) -> Any:
    return connect(address, user=new_user())


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted_server() as server:
        yield server


def test_many_tasks_through_their_life(client: Any) -> None:
    titles = [f"Task {number}" for number in range(250)]
    made = client.create_many(titles, max_in_flight=20)
    assert [task.title for task in made] == titles
    ids = [task.id for task in made]
    assert client.get_many(ids[::-1]) == made[::-1]
    done = client.complete_many(iter(ids[:50]))
    assert [(task.id, task.status) for task in done] == [(each, COMPLETE) for each in ids[:50]]
    assert client.delete_many(ids[:50]) == [None] * 50
    assert client.delete_many(ids[:50], allow_missing=True) == [None] * 50
    assert len(list(client.list())) == 200
    assert (client.create_many([]), client.get_many(()), client.delete_many(iter([]))) == ([], [], [])


def test_an_item_that_fails_is_an_error_in_its_place(client: Any) -> None:
    request_id, missing = uuid4(), str(uuid4())
    made = client.create_many(["Buy milk", " ", NewTask("Call Bob", "About the milk", request_id)])
    assert (made[0].title, made[2].title, made[2].description) == ("Buy milk", "Call Bob", "About the milk")
    assert isinstance(made[1], InvalidArgument)
    assert [violation.field for violation in made[1].violations] == ["task.title"]
    [again, other] = client.create_many(
        [NewTask("Call Bob", "About the milk", request_id), NewTask("x", "", request_id)]
    )
    assert again == made[2]
    assert isinstance(other, AlreadyExists)
    for many in (client.get_many, client.complete_many, client.delete_many):
        outcomes = many([missing, made[0].id])
        assert [type(outcome) for outcome in outcomes] == [NotFound, type(outcomes[1])]
        assert not isinstance(outcomes[1], NotFound)


def test_calls_in_flight_are_bounded_and_all_slots_are_used(connect: Connect, server: Scripted) -> None:
    fourth, full = threading.Event(), threading.Barrier(3)
    too_many: list[bool] = []

    def answer(_context: Any) -> bytes:
        if len(server.attempts) > 3:
            fourth.set()
        else:
            full.wait(60)  # until three calls are here
            too_many.append(fourth.wait(0.3))  # a fourth comes only when one of them has ended
        return b""

    server.answers(answer)
    outcomes = connect(server.address, user="alice").get_many([str(n) for n in range(4)], max_in_flight=3)
    assert outcomes == [Task()] * 4
    assert too_many[0] is False


def test_outcomes_are_in_order_whatever_ends_first(connect: Connect, server: Scripted) -> None:
    second = threading.Event()

    def answer(_context: Any) -> bytes:
        if len(server.attempts) == 1:
            second.wait(60)
        else:
            second.set()
        number = GetTaskRequest.FromString(server.attempts[-1][1]).id
        return Task(title=number).SerializeToString() if len(server.attempts) > 1 else b""

    server.answers(answer)
    first, other = connect(server.address, user="alice").get_many(["0", "1"], max_in_flight=2)
    assert {first.title, other.title} <= {"", "0", "1"}
    assert [GetTaskRequest.FromString(request).id for _, request in server.attempts] in (["0", "1"], ["1", "0"])


def test_each_item_is_sent_again_as_a_single_call_is(connect: Connect, server: Scripted) -> None:
    server.answers(StatusCode.UNAVAILABLE, b"")
    client = connect(server.address, user="alice", channels=2)
    assert client.get_many(["1", "2"]) == [Task(), Task()]
    assert len(server.attempts) == 3
    server.answers(StatusCode.UNAVAILABLE, b"")
    outcomes = client.delete_many(["1", "2"], max_in_flight=1)
    assert isinstance(outcomes[0], Unavailable)
    assert outcomes[1] is None
    assert len(server.attempts) == 2


def test_nothing_is_sent_if_one_item_is_invalid(connect: Connect, server: Scripted) -> None:
    client = connect(server.address, user="alice")
    with pytest.raises(ValueError, match=r"^tasks\[1\] must be valid Unicode"):
        client.create_many(["Buy milk", "\ud800"])
    with pytest.raises(TypeError, match=r"^ids\[2\] must be a str or a uuid.UUID, and not int"):
        client.delete_many(["1", "2", 3])
    assert server.attempts == []


def test_calls_in_flight_are_cancelled_when_it_is_interrupted(connect: Connect, server: Scripted) -> None:
    cancelled = threading.Event()

    def answer(context: Any) -> bytes:
        context.add_callback(cancelled.set)
        cancelled.wait(60)
        return b""

    def token() -> Any:
        return later() if is_async else next(tokens)

    async def later() -> str:
        if handed:
            await eventually(arrived)
        return next(tokens)

    def next_tokens() -> Iterator[str]:
        handed.append("token")
        yield "token"
        until(arrived)
        raise KeyError("no token for the second call")

    def arrived() -> bool:
        return len(server.attempts) == 1

    tokens = next_tokens()
    is_async = not isinstance(connect(server.address), Client)
    handed: list[str] = []
    server.answers(answer)
    with pytest.raises(KeyError, match="no token"):
        connect(server.address, token=token, timeout=60).get_many(["1", "2"])
    assert cancelled.wait(60)
