"""Arguments of the Python clients: a wrong one is an error that names it, before anything is sent."""

import inspect
import math
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from taskwell_client import COMPLETE, TLS, AsyncClient, Client, InvalidArgument, NewTask, TaskwellError, connect_async
from taskwell_client import connect as connect_sync
from taskwell_client.tasks import Tasks

from tests.clients.clients import Connect
from tests.clients.scripted import Scripted, scripted_server

SURROGATE = "half of \ud83d an emoji"
NOT_TEXT = [None, 1, b"bytes", ["list"], {"a": 1}, object()]
NOT_A_FLAG = ["", "false", 1, None]
NOT_AN_INTEGER = ["1", 1.0, math.nan, None, True]
NOT_A_STATUS = [*("done", "complete", "", 3, -1), *(True, None, 1.0, b"1")]
NOT_A_TIMEOUT = [math.inf, -math.inf, math.nan, 0, -1, 1e300, 10**400, "1", True, timedelta(seconds=1), Decimal(1)]
NOT_AN_ID = [SURROGATE, 1, b"1", True, None, ["1"]]
NOT_AN_ETAG = ["", SURROGATE, 1, b"1", True, ["1"]]
NOT_A_PATH = ["", "\0", 1, b"ca.pem", ["ca.pem"]]
NOT_MANY = ["one", b"one", None, 1]

Wrong = tuple[str, Callable[[Any, Any], Any], list[Any]]

METHODS: dict[str, list[Wrong]] = {
    "as_user": [("user", lambda client, it: client.as_user(it), ["", "a b", SURROGATE, *NOT_TEXT])],
    "with_token": [("token", lambda client, it: client.with_token(it), ["", "a\n", SURROGATE, *NOT_TEXT])],
    "create": [
        ("title", lambda client, it: client.create(it), [SURROGATE, *NOT_TEXT]),
        ("description", lambda client, it: client.create("a", it), [SURROGATE, *NOT_TEXT]),
        ("request_id", lambda client, it: client.create("a", request_id=it), NOT_AN_ETAG),
        ("timeout", lambda client, it: client.create("a", timeout=it), NOT_A_TIMEOUT),
    ],
    "get": [
        ("id", lambda client, it: client.get(it), NOT_AN_ID),
        ("timeout", lambda client, it: client.get("1", timeout=it), NOT_A_TIMEOUT),
    ],
    "list": [
        ("status", lambda client, it: list(client.list(status=it)), NOT_A_STATUS),
        ("oldest_first", lambda client, it: list(client.list(oldest_first=it)), NOT_A_FLAG),
        ("page_size", lambda client, it: list(client.list(page_size=it)), [-1, *NOT_AN_INTEGER]),
        ("timeout", lambda client, it: list(client.list(timeout=it)), NOT_A_TIMEOUT),
    ],
    "page": [
        ("token", lambda client, it: client.page(it), [SURROGATE, *NOT_TEXT]),
        ("status", lambda client, it: client.page(status=it), NOT_A_STATUS),
        ("oldest_first", lambda client, it: client.page(oldest_first=it), NOT_A_FLAG),
        ("page_size", lambda client, it: client.page(page_size=it), [-1, -(2**40), *NOT_AN_INTEGER]),
        ("timeout", lambda client, it: client.page(timeout=it), NOT_A_TIMEOUT),
    ],
    "update": [
        ("id", lambda client, it: client.update(it, title="a"), NOT_AN_ID),
        ("title", lambda client, it: client.update("1", title=it), [SURROGATE, *NOT_TEXT[1:]]),
        ("description", lambda client, it: client.update("1", description=it), [SURROGATE, *NOT_TEXT[1:]]),
        ("status", lambda client, it: client.update("1", status=it), ["done", 0, 3, True, 1.0]),
        ("etag", lambda client, it: client.update("1", title="a", etag=it), NOT_AN_ETAG),
        ("timeout", lambda client, it: client.update("1", title="a", timeout=it), NOT_A_TIMEOUT),
    ],
    "complete": [
        ("id", lambda client, it: client.complete(it), NOT_AN_ID),
        ("etag", lambda client, it: client.complete("1", etag=it), NOT_AN_ETAG),
        ("timeout", lambda client, it: client.complete("1", timeout=it), NOT_A_TIMEOUT),
    ],
    "delete": [
        ("id", lambda client, it: client.delete(it), NOT_AN_ID),
        ("etag", lambda client, it: client.delete("1", etag=it), NOT_AN_ETAG),
        ("allow_missing", lambda client, it: client.delete("1", allow_missing=it), NOT_A_FLAG),
        ("timeout", lambda client, it: client.delete("1", timeout=it), NOT_A_TIMEOUT),
    ],
    "create_many": [
        ("tasks", lambda client, it: client.create_many(it), NOT_MANY),
        ("tasks[1]", lambda client, it: client.create_many(["a", it]), [SURROGATE, *NOT_TEXT, ("a", "b")]),
        ("tasks[0].title", lambda client, it: client.create_many([NewTask(it)]), [SURROGATE, *NOT_TEXT]),
        ("tasks[0].description", lambda client, it: client.create_many([NewTask("a", it)]), [SURROGATE, *NOT_TEXT]),
        ("tasks[0].request_id", lambda client, it: client.create_many([NewTask("a", "", it)]), NOT_AN_ETAG),
    ],
    "get_many": [("ids[1]", lambda client, it: client.get_many(["1", it]), NOT_AN_ID)],
    "complete_many": [("ids[1]", lambda client, it: client.complete_many(["1", it]), NOT_AN_ID)],
    "delete_many": [
        ("ids[1]", lambda client, it: client.delete_many(["1", it]), NOT_AN_ID),
        ("allow_missing", lambda client, it: client.delete_many(["1"], allow_missing=it), NOT_A_FLAG),
    ],
}


def of_many(name: str) -> list[Wrong]:
    """What the methods that make many calls have in common."""
    return [
        ("ids", lambda client, it: getattr(client, name)(it), [] if name == "create_many" else NOT_MANY),
        (
            "max_in_flight",
            lambda client, it: getattr(client, name)(["1"], max_in_flight=it),
            [0, 10**9, *NOT_AN_INTEGER],
        ),
        ("timeout", lambda client, it: getattr(client, name)(["1"], timeout=it), NOT_A_TIMEOUT),
    ]


for name in ("create_many", "get_many", "complete_many", "delete_many"):
    METHODS[name] += of_many(name)

NOT_A_TARGET = ["", " ", "localhost:1\n", "\0", "http://localhost:8080", "HTTPS://a.example", SURROGATE, *NOT_TEXT]
NOT_TLS = ["ca.pem", b"ca.pem", 1, None, Path("ca.pem")]
NO_OPTIONS = ["a", None, 1, ["a"], [("a",)], [(1, 2)], [("a", None)], [("a", 1.5)], [("a", 2**40)], [("a", 1, 2)]]
CONNECT: list[tuple[str, Callable[..., Any], list[Any]]] = [
    ("target", lambda connect, it: connect(it), NOT_A_TARGET),
    ("user", lambda connect, it: connect("localhost:1", user=it), ["", "a b", SURROGATE, *NOT_TEXT[1:]]),
    ("token", lambda connect, it: connect("localhost:1", token=it), ["", "a\r\n", SURROGATE, *NOT_TEXT[1:]]),
    ("tls", lambda connect, it: connect("localhost:1", tls=it), NOT_TLS),
    ("insecure", lambda connect, it: connect("localhost:1", insecure=it), NOT_A_FLAG),
    ("timeout", lambda connect, it: connect("localhost:1", timeout=it), [None, *NOT_A_TIMEOUT]),
    ("channels", lambda connect, it: connect("localhost:1", channels=it), [0, -1, 10**9, *NOT_AN_INTEGER]),
    ("options", lambda connect, it: connect("localhost:1", options=it), NO_OPTIONS),
    ("ca", lambda _, it: TLS(ca=it), NOT_A_PATH),
    ("cert", lambda _, it: TLS(cert=it, key="key.pem"), NOT_A_PATH),
    ("key", lambda _, it: TLS(cert="cert.pem", key=it), NOT_A_PATH),
]


def assert_named(name: str, attempt: Callable[[Any], Any], wrong: list[Any]) -> None:
    for value in wrong:
        with pytest.raises((TypeError, ValueError)) as caught:
            attempt(value)
        assert str(caught.value).startswith(name), (value, caught.value)
        assert len(str(caught.value)) < 300
        if isinstance(caught.value, ValueError):
            assert isinstance(caught.value, InvalidArgument | TaskwellError), value
            assert [violation.field for violation in caught.value.violations] == [
                str(caught.value).split()[0].strip(",")
            ]


@pytest.mark.parametrize("name", METHODS)
def test_a_wrong_argument_of_a_method_is_an_error_that_names_it(connect: Connect, name: str) -> None:
    client = connect("localhost:1", user="alice")
    for argument, attempt, wrong in METHODS[name]:
        assert_named(argument, lambda value, attempt=attempt: attempt(client, value), wrong)  # type: ignore[misc]


@pytest.mark.parametrize("case", CONNECT, ids=lambda case: case[0])
def test_a_wrong_argument_of_connect_is_an_error_that_names_it(
    connect: Connect, case: tuple[str, Callable[..., Any], list[Any]]
) -> None:
    name, attempt, wrong = case
    assert_named(name, lambda value: attempt(connect, value), wrong)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_every_argument_of_every_method_is_tested(kind: type) -> None:
    public = {name for name, value in vars(Tasks).items() if callable(value) and not name.startswith("_")}
    assert set(METHODS) == {*public, "with_token"}
    for name, cases in METHODS.items():
        tested = {argument.split("[")[0].split(".")[0] for argument, _, wrong in cases if wrong}
        assert tested == set(inspect.signature(getattr(kind, name)).parameters) - {"self"}, name
    for function in (connect_sync, connect_async):
        assert {name for name, _, _ in CONNECT} - {"ca", "cert", "key"} == set(inspect.signature(function).parameters)


def test_a_wrong_status_is_told_which_there_are(connect: Connect) -> None:
    client = connect("localhost:1", user="alice")
    with pytest.raises(ValueError, match=r"constants INCOMPLETE, COMPLETE, ANY_STATUS, and not 'done'"):
        client.page(status="done")
    with pytest.raises(ValueError, match=r"constants INCOMPLETE or COMPLETE, and not 'done'"):
        client.update("1", status="done")


def test_a_token_is_never_shown(connect: Connect) -> None:
    for token in ("secret\n", ["secret"], b"secret"):
        with pytest.raises((TypeError, ValueError)) as caught:
            connect("localhost:1", token=token)
        assert "secret" not in str(caught.value)
        with pytest.raises((TypeError, ValueError)) as caught:
            connect("localhost:1", token=lambda token=token: token).page()
        assert "secret" not in str(caught.value)
        assert str(caught.value).startswith("token must be")


async def test_a_coroutine_function_is_no_token_of_a_sync_client() -> None:
    async def token() -> str:
        return "secret"

    client = connect_sync("localhost:1", token=token)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^token must be a function that returns a str.*connect_async"):
        client.page()
    with pytest.raises(TypeError, match=r"^token must be"):
        client.get_many(["1"])


def test_values_of_other_types_that_mean_the_same_are_taken(connect: Connect) -> None:
    class Number:
        """An integer of another library."""

        def __index__(self) -> int:
            return 7

    number: Any = Number()
    with scripted_server() as server:
        client = connect(
            server.address, user="alice", timeout=1, channels=2, options={"grpc.max_receive_message_length": -1}
        )
        task_id, request_id = uuid4(), UUID(int=7)
        client.get(task_id)
        client.update(task_id, status=COMPLETE, etag="7")
        client.complete(task_id)
        client.delete(task_id)
        client.create("a", request_id=request_id)
        client.get_many([task_id])
        assert all(
            str(id_).encode() in request
            for (_, request), id_ in zip(server.attempts, ids(task_id, request_id), strict=True)
        )
        client.page(page_size=2**40)
        assert page_size(server) == 1000
        client.page(page_size=number)
        assert page_size(server) == 7


def ids(task_id: UUID, request_id: UUID) -> list[UUID]:
    return [task_id] * 4 + [request_id, task_id]


def page_size(server: Scripted) -> int:
    from taskwell.v1.tasks_pb2 import ListTasksRequest

    return ListTasksRequest.FromString(server.attempts[-1][1]).page_size
