"""Limits of connections and requests, keep-alive, cancellation when the client disconnects, and the drain."""

import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.rest.client import Client, RestApi
from tests.rest.conftest import ANY_PORT
from tests.rest.test_attacks import request, responses
from tests.rpc.given import Rows
from tests.running import running_addresses, settings_for
from tests.waiting import until

SHORT = 0.3  # s
BODY = b'{"title": "x"}'


@contextmanager
def serving(sqlite_url: str, **limits: Any) -> Iterator[Client]:
    with running_addresses(settings_for(sqlite_url, rest_address=ANY_PORT, **limits)) as addresses:
        client = Client(addresses.rest)
        yield client
        client.close()


@pytest.fixture(scope="module")
def impatient(sqlite_url: str) -> Iterator[Client]:
    """A service that does not wait long."""
    with serving(sqlite_url, rest_request_timeout=SHORT, max_connection_idle=1) as client:
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


# Time


POST = b"POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\nx-user-id: alice\r\n"
UNFINISHED = {
    "no body": POST + b"content-length: 14\r\n\r\n",
    "half a body": POST + b'content-length: 14\r\n\r\n{"title',
    "half a chunk": POST + b"transfer-encoding: chunked\r\n\r\n5\r\n{",
    "no last chunk": POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
}


def test_a_body_must_arrive_within_the_request_timeout(impatient: Client) -> None:
    for name, told in zip(UNFINISHED, impatient.pool.map(impatient.exchange, UNFINISHED.values()), strict=True):
        [answer] = responses(told)
        assert (name, answer.status, answer.reason) == (name, 408, "REQUEST_TOO_SLOW")
        assert answer.headers["connection"] == "close"


def test_a_body_of_a_refused_request_must_arrive_within_the_request_timeout_too(impatient: Client) -> None:
    raw = b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 14\r\n\r\n{"
    [answer] = responses(impatient.exchange(raw))
    assert (answer.status, answer.headers["connection"]) == (404, "close")


def test_an_idle_connection_is_closed(impatient: Client) -> None:
    [answer] = responses(impatient.exchange(kept_alive("alice")))
    assert answer.status == 200
    assert "connection" not in answer.headers


# Number and size


def test_one_connection_too_many_is_answered_503(sqlite_url: str) -> None:
    with serving(sqlite_url, max_connections=3) as client, ExitStack() as opened:
        for _ in range(3):
            connection = opened.enter_context(client.socket())
            connection.sendall(kept_alive("alice"))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert client.exchange(request("GET", "/healthz")).startswith(b"HTTP/1.1 503 ")
        connection.close()
        until(lambda: client.exchange(request("GET", "/healthz")).startswith(b"HTTP/1.1 200 "))


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
def test_the_limit_of_the_head(client: Client, make: Callable[[int], bytes]) -> None:
    [answer] = responses(client.exchange(make(16_384)))
    assert (answer.status, answer.headers["connection"]) in {(431, "close"), (400, "close")}  # 400 if it came in parts
    if make(1).endswith(b"\r\n\r\n"):
        [answer] = responses(client.exchange(make(15_000)))
        assert answer.status == 401


def test_a_body_that_is_too_long_by_far_is_not_even_asked_for(client: Client) -> None:
    headers = (f"content-length: {2**30}", "expect: 100-continue", "x-user-id: alice")
    [answer] = responses(client.exchange(request("POST", "/v1/tasks", *headers)))
    assert (answer.status, answer.reason, answer.headers["connection"]) == (413, "MESSAGE_TOO_LARGE", "close")


@pytest.mark.parametrize(
    ("target", "header", "status"),
    [
        ("/v1/tasks", "content-length: 70000", 413),
        ("/v1/tasks", "content-type: text/plain", 415),
        ("/nowhere", "x-a: b", 404),
    ],
)
def test_a_body_that_is_refused_in_any_case_is_not_asked_for(
    client: Client, target: str, header: str, status: int
) -> None:
    length = () if "length" in header else ("content-length: 14",)
    head = request("POST", target, header, *length, "expect: 100-continue", "x-user-id: alice")
    [answer] = responses(client.exchange(head.replace(b"connection: close\r\n", b"")))
    assert (answer.status, answer.headers["connection"]) == (status, "close")


def test_a_body_that_is_waited_for_is_asked_for(client: Client) -> None:
    head = request("POST", "/v1/tasks", "content-length: 14", "expect: 100-continue", "x-user-id: alice")
    with client.socket() as connection:
        connection.sendall(head)
        assert re.fullmatch(rb"HTTP/1.1 100 [\w ]*\r\n\r\n", connection.recv(65536))
        connection.sendall(BODY)
        assert told(connection).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_gets_an_early_answer_can_keep_the_connection(client: Client) -> None:
    with client.socket() as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 200000\r\n\r\n")
        for _ in range(10):
            connection.sendall(b"x" * 20_000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")
        connection.sendall(request("GET", "/healthz"))
        assert b" 200 " in told(connection)


# Requests on one connection


def test_white_space_beside_a_value_is_none_of_it(client: Client) -> None:
    values = {"x-user-id": "alice", "content-type": "application/json", "grpc-timeout": "5S", "content-length": "14"}
    padded = [f"{name}: \t{value} \t" for name, value in {**values, "content-encoding": "identity"}.items()]
    head = request("POST", "/v1/tasks", *padded, "expect: 100-continue ").replace(b"127.0.0.1", b"localhost ")
    going_on, answer = responses(client.exchange(head + BODY))
    assert (going_on.status, answer.status) == (100, 200), answer.body


def test_a_request_may_come_byte_by_byte(client: Client) -> None:
    api = RestApi(client)
    headers = (f"x-user-id: {api.user}", "UPGRADE:\th2c", "transfer-encoding: chunked")
    raw = kept_alive(api.user) + request("POST", "/v1/tasks", *headers) + b"e\r\n%b\r\n0\r\n\r\n" % BODY
    with client.socket() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw:
            connection.send(bytes([byte]))
        assert [answer.status for answer in responses(told(connection))] == [200, 200]
    assert [task.title for task in api.list().tasks] == ["x"]


def test_requests_that_come_at_once_are_answered_in_their_order(client: Client) -> None:
    api = RestApi(client)
    tasks = [api.create(f"{number}") for number in range(20)]
    raw = b"".join(kept_alive(api.user, f"/v1/tasks/{task.id}") for task in tasks)
    answers = responses(client.exchange(raw + request("GET", "/healthz")))
    assert [answer.json["title"] for answer in list(answers)[:-1]] == [task.title for task in tasks]


def test_http_1_0_is_answered_and_closed(client: Client) -> None:
    raw = b"GET /v1/tasks HTTP/1.0\r\nx-user-id: alice\r\nconnection: keep-alive\r\n\r\n"
    [answer] = responses(client.exchange(raw))
    assert (answer.status, answer.headers["connection"]) == (200, "close")


@pytest.mark.parametrize("framing", ["content-length: 14", "transfer-encoding: chunked"])
def test_an_upgrade_is_passed_over(client: Client, framing: str) -> None:
    """As curl --http2 and Java's HttpClient would, in their first request on a connection."""
    api = RestApi(client)
    headers = (f"x-user-id: {api.user}", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAM")
    post = request("POST", "/v1/tasks", *headers, framing).replace(b"connection: close\r\n", b"")
    body = BODY if "length" in framing else b"e\r\n%b\r\n0\r\n\r\n" % BODY
    get = request("GET", "/v1/tasks", *headers).replace(b"connection: close\r\n", b"")
    answers = responses(client.exchange(post + body + get + request("GET", "/healthz")))
    assert [(answer.status, answer.headers.get("connection")) for answer in answers] == [
        (200, None),
        (200, None),
        (200, "close"),
    ]
    assert [task.title for task in api.list().tasks] == ["x"]


def test_a_pipelined_request_is_not_taken_for_the_caller_of_the_one_before(client: Client) -> None:
    api = RestApi(client)
    api.create()
    nobody = request("GET", "/v1/tasks")
    listed, refused = responses(client.exchange(kept_alive(api.user) + nobody))
    assert (listed.status, refused.status, refused.reason) == (200, 401, "CALLER_MISSING")


# Cancellation and drain


@pytest.mark.parametrize("behind", [b"", kept_alive("alice")], ids=["alone", "with another request behind it"])
def test_a_call_ends_when_its_client_is_gone(postgresql_url: str, behind: bytes) -> None:
    rows = Rows(postgresql_url)
    with serving(postgresql_url, max_in_flight=1, max_call_seconds=600) as client:
        api = RestApi(client)
        task = api.create()

        def is_busy() -> bool:
            return api.send("GET", "/v1/tasks").status == 429

        with rows.locked():
            with client.socket() as connection:
                completion = kept_alive(api.user, f"/v1/tasks/{task.id}:complete").replace(b"GET", b"POST", 1)
                connection.sendall(completion + behind)
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


def test_clients_are_told_that_the_service_ends_before_their_connections_are_closed(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.server.app._MIN_STEP", 1.0)
    with ExitStack() as running, ExitStack() as opened, ThreadPoolExecutor(1) as pool:
        client = running.enter_context(serving(sqlite_url))
        kept, new = (opened.enter_context(closing(client.connection())) for _ in range(2))

        def readiness(connection: HTTPConnection) -> tuple[int, str | None]:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.getheader("connection")

        assert readiness(kept) == (200, None)
        ended = pool.submit(running.pop_all().close)
        until(lambda: readiness(new)[0] == 503)
        assert readiness(kept) == (503, "close")
        ended.result()
