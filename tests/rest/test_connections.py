"""Connections: how long, how many, how much; and what becomes of a call when its client is gone."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from tests.rest.client import Client, RestApi
from tests.rest.conftest import ANY_PORT
from tests.rest.test_attacks import request, responses
from tests.rpc.given import Rows
from tests.running import new_user, running_doors, settings_for
from tests.waiting import until

SHORT = 0.3  # s
BODY = b'{"title": "x"}'


@contextmanager
def serving(sqlite_url: str, **limits: Any) -> Iterator[Client]:
    with running_doors(settings_for(sqlite_url, rest_address=ANY_PORT, **limits)) as doors:
        client = Client(doors.rest)
        yield client
        client.close()


@pytest.fixture(scope="module")
def impatient(sqlite_url: str) -> Iterator[Client]:
    """A service that does not wait long."""
    with serving(sqlite_url, rest_request_timeout=SHORT, max_connection_idle=5 * SHORT) as client:
        yield client


def told(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def is_closed(connection: socket.socket) -> bool:
    """Whether nothing can be sent any more."""
    try:
        connection.send(b"\r\n")
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def kept_alive(user: str, target: str = "/v1/tasks") -> bytes:
    return request("GET", target, f"x-user-id: {user}").replace(b"connection: close\r\n", b"")


# How long


POST = b"POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\nx-user-id: alice\r\n"
UNFINISHED = {
    "nothing": b"",
    "line breaks": b"\r\n\r\n",
    "half a line": b"GET /v1/ta",
    "half a head": POST,
    "half a header": b"POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\nx-user-id: al",
    "no body": POST + b"content-length: 14\r\n\r\n",
    "half a body": POST + b'content-length: 14\r\n\r\n{"title',
    "half a chunk": POST + b"transfer-encoding: chunked\r\n\r\n5\r\n{",
    "no last chunk": POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
}


def test_a_request_must_arrive_in_time(impatient: Client) -> None:
    for name, told in zip(UNFINISHED, impatient.pool.map(impatient.exchange, UNFINISHED.values()), strict=True):
        [answer] = responses(told)
        assert (name, answer.status, answer.reason) == (name, 408, "REQUEST_TOO_SLOW")
        assert answer.headers["connection"] == "close"


def test_so_must_the_second_request_of_a_connection(impatient: Client) -> None:
    first, second = responses(impatient.exchange(kept_alive("alice") + b"GET /v1/ta"))
    assert (first.status, second.status) == (200, 408)


def test_a_body_that_nobody_waits_for_must_arrive_in_time_as_well(impatient: Client) -> None:
    raw = b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 14\r\n\r\n{"
    first, *_ = responses(impatient.exchange(raw))
    assert first.status == 404


def test_a_client_that_drips_is_not_waited_for(impatient: Client) -> None:
    with impatient.socket() as connection:
        connection.settimeout(SHORT / 10)
        connection.send(b"GET /v1/tasks HTTP/1.1\r\nx-a: ")
        received = b""
        for _ in range(1000):
            with suppress(TimeoutError):
                received = connection.recv(65536)
            if received:
                break
            connection.send(b"x")
        assert received.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed(impatient: Client) -> None:
    [answer] = responses(impatient.exchange(kept_alive("alice")))
    assert answer.status == 200
    assert "connection" not in answer.headers


def test_line_breaks_do_not_keep_an_idle_connection_open(impatient: Client) -> None:
    with impatient.socket() as connection:
        connection.sendall(kept_alive("alice"))
        until(lambda: is_closed(connection))


def test_a_client_that_takes_no_answer_is_not_waited_for(sqlite_url: str) -> None:
    user, rows = new_user(), Rows(sqlite_url)
    rows.insert_user(user)
    with serving(sqlite_url, rest_request_timeout=SHORT) as client, ExitStack() as opened:
        api = RestApi(client, user)
        for number in range(40):
            api.create(f"{number}", "😀" * 5000)
        connection = opened.enter_context(socket.socket())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((client.host, client.port))
        connection.sendall(kept_alive(user) * 40)
        until(lambda: is_closed(connection))


def test_an_old_connection_is_closed_after_the_next_answer(sqlite_url: str) -> None:
    with serving(sqlite_url, max_connection_age=0.001) as client:
        connection = client.connection()

        def is_asked_to_close() -> bool:
            connection.request("GET", "/v1/tasks", headers={"x-user-id": "alice"})
            answer = connection.getresponse()
            assert answer.status == 200
            answer.read()
            return answer.getheader("connection") == "close"

        until(is_asked_to_close)
        connection.close()


# How many, and how much


def test_one_connection_too_many_is_closed_at_once(sqlite_url: str) -> None:
    with serving(sqlite_url, max_connections=3) as client, ExitStack() as opened:
        for _ in range(3):
            connection = opened.enter_context(client.socket())
            connection.sendall(kept_alive("alice"))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        with client.socket() as excess, suppress(ConnectionResetError):
            assert told(excess) == b""
        connection.close()

        def is_served() -> bool:
            with suppress(ConnectionResetError, BrokenPipeError):
                return client.exchange(request("GET", "/healthz")).startswith(b"HTTP/1.1 200 ")
            return False

        until(is_served)


@pytest.mark.parametrize(
    "make",
    [
        lambda size: request("GET", "/v1/tasks?page_token=" + "x" * size),
        lambda size: request("GET", "/v1/tasks", "x-a: " + "x" * size),
        lambda size: request("GET", "/v1/tasks", "x" * size + ": x"),
        lambda size: request("GET", "/v1/tasks", *["x: y"] * (size // 33)),
        lambda size: request("GET", "/v1/tasks", "x-a: " + "x" * size)[:-4],
    ],
    ids=["target", "value", "name", "count", "no end"],
)
def test_a_head_may_be_so_large_and_no_larger(client: Client, make: Callable[[int], bytes]) -> None:
    for size in (16_384, 400_000):
        [answer] = responses(client.exchange(make(size)))
        assert (answer.status, answer.reason) == (431, "HEADERS_TOO_LARGE")
    if make(1).endswith(b"\r\n\r\n"):
        [answer] = responses(client.exchange(make(15_000)))
        assert answer.status == 401


def test_a_body_that_is_too_long_by_far_is_not_even_asked_for(client: Client) -> None:
    headers = (f"content-length: {2**30}", "expect: 100-continue", "x-user-id: alice")
    [answer] = responses(client.exchange(request("POST", "/v1/tasks", *headers)))
    assert (answer.status, answer.reason, answer.headers["connection"]) == (413, "MESSAGE_TOO_LARGE", "close")


def test_a_body_that_is_waited_for_is_asked_for(client: Client) -> None:
    head = request("POST", "/v1/tasks", "content-length: 14", "expect: 100-continue", "x-user-id: alice")
    with client.socket() as connection:
        connection.sendall(head)
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert told(connection).startswith(b"HTTP/1.1 200 ")


# As it is written


def test_white_space_beside_a_value_is_none_of_it(client: Client) -> None:
    values = {"x-user-id": "alice", "content-type": "application/json", "grpc-timeout": "5S", "content-length": "14"}
    padded = [f"{name}: \t{value} \t" for name, value in {**values, "content-encoding": "identity"}.items()]
    head = request("POST", "/v1/tasks", *padded, "expect: 100-continue ").replace(b"127.0.0.1", b"localhost ")
    going_on, answer = responses(client.exchange(head + BODY))
    assert (going_on.status, answer.status) == (100, 200), answer.body


# One after the other


def test_requests_that_come_at_once_are_answered_in_their_order(client: Client) -> None:
    api = RestApi(client)
    tasks = [api.create(f"{number}") for number in range(20)]
    raw = b"".join(kept_alive(api.user, f"/v1/tasks/{task.id}") for task in tasks)
    answers = responses(client.exchange(raw + request("GET", "/healthz")))
    assert [answer.json["title"] for answer in list(answers)[:-1]] == [task.title for task in tasks]


def test_what_is_no_request_does_not_take_the_place_of_an_answer(client: Client) -> None:
    first, *others = responses(client.exchange(kept_alive("alice") + b"what is this?\r\n\r\n"))
    assert (first.status, others) == (200, [])


def test_http_1_0_is_answered_and_closed(client: Client) -> None:
    raw = b"GET /v1/tasks HTTP/1.0\r\nx-user-id: alice\r\nconnection: keep-alive\r\n\r\n"
    [answer] = responses(client.exchange(raw))
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_an_upgrade_that_is_not_to_be_had_is_answered_in_plain_http(client: Client) -> None:
    headers = ("x-user-id: alice", "upgrade: h2c", "connection: upgrade")
    [answer] = responses(client.exchange(request("GET", "/v1/tasks", *headers)))
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_a_call_ends_when_its_client_is_gone(postgresql_url: str) -> None:
    rows = Rows(postgresql_url)
    with serving(postgresql_url, max_in_flight=1, max_call_seconds=600) as client:
        api = RestApi(client)
        task = api.create()

        def is_busy() -> bool:
            return api.send("GET", "/v1/tasks").status == 429

        with rows.locked():
            with client.socket() as connection:
                connection.sendall(kept_alive(api.user, f"/v1/tasks/{task.id}:complete").replace(b"GET", b"POST", 1))
                until(is_busy)
            until(lambda: not is_busy())


def test_a_connection_with_a_call_is_not_idle(postgresql_url: str) -> None:
    rows = Rows(postgresql_url)
    with serving(postgresql_url, max_connection_idle=SHORT) as client, client.socket() as connection:
        api = RestApi(client)
        task = api.create()
        connection.sendall(kept_alive(api.user))
        while b"nextPageToken" not in connection.recv(65536):
            pass
        with rows.locked():
            connection.sendall(request("POST", f"/v1/tasks/{task.id}:complete", f"x-user-id: {api.user}"))
            for _ in range(2):
                client.exchange(kept_alive(api.user))  # comes back when a connection has been idle for too long
        assert b"TASK_STATUS_COMPLETE" in told(connection)
