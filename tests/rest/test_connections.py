"""Limits of connections and requests, keep-alive, cancellation when the client disconnects, and the drain."""

import gc
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.abuse import rest_attacks
from tests.rest.client import Client, RestApi
from tests.rest.conftest import ANY_PORT
from tests.rest.test_attacks import request, responses
from tests.rpc.given import Rows
from tests.running import DEADLINE, new_user, running_addresses, settings_for
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


def is_closed(connection: socket.socket, more: bytes = b"\r\n") -> bool:
    """Whether nothing can be sent any more."""
    try:
        connection.send(more)
        return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
    except (BrokenPipeError, ConnectionResetError):
        return True


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


@pytest.mark.parametrize("attack", [rest_attacks.silent, rest_attacks.slow_heads])
def test_rest_request_timeout_closes_connections_without_a_complete_head(
    impatient: Client, attack: Callable[[str, int, int, float], int]
) -> None:
    assert attack(impatient.host, impatient.port, 5, 60) == 5


def test_rest_request_timeout_closes_a_kept_connection_with_a_slow_head(impatient: Client) -> None:
    with impatient.socket() as connection:
        connection.sendall(kept_alive("alice"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(kept_alive("alice")[:-2])
        until(lambda: is_closed(connection, b"a: b\r\n"))


# Responses that are not taken


@pytest.fixture
def large_page(sqlite_url: str) -> str:
    """A user with a page of 1.3 MB."""
    user, rows = new_user(), Rows(sqlite_url)
    rows.insert_user(user)
    rows.insert_tasks(user, [datetime.now(UTC)] * 600, description="x" * 2000)
    return user


def of_large_page(user: str) -> bytes:
    return kept_alive(user, "/v1/tasks?pageSize=1000")


def reader(client: Client, opened: ExitStack, user: str) -> socket.socket:
    """A connection that has asked for a large page and takes nothing of it."""
    connection = opened.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(DEADLINE)
    connection.connect((client.host, client.port))
    connection.sendall(of_large_page(user))
    connection.recv(1)
    return connection


def test_rest_response_timeout_closes_slow_readers(sqlite_url: str, large_page: str) -> None:
    limits = {"rest_response_timeout": SHORT, "rest_min_rate": 1_000_000}
    with serving(sqlite_url, **limits) as client, ExitStack() as opened:
        slow = reader(client, opened, large_page)

        def is_gone() -> bool:
            with suppress(ConnectionError):
                slow.recv(1)
            return is_closed(slow)

        until(is_gone)
        whole = client.send("GET", "/v1/tasks?pageSize=1000", {"x-user-id": large_page})
        assert len(whole.body) > 1_200_000


def test_rest_min_rate_gives_large_responses_more_time(sqlite_url: str, large_page: str) -> None:
    limits = {"rest_response_timeout": SHORT, "rest_min_rate": 10_000, "rest_request_timeout": 1}
    with serving(sqlite_url, **limits) as client, ExitStack() as opened:
        slow = reader(client, opened, large_page)
        assert rest_attacks.silent(client.host, client.port, 1, 60) == 1
        assert not is_closed(slow)


def test_unread_responses_close_the_connection_that_has_waited_longest(
    sqlite_url: str, large_page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.rest.connections.MAX_UNREAD_BYTES", 3_500_000)
    with serving(sqlite_url) as client, ExitStack() as opened:
        first, second, third = (reader(client, opened, large_page) for _ in range(3))
        until(lambda: is_closed(first))
        assert not is_closed(second)
        assert not is_closed(third)
        whole = client.send("GET", "/v1/tasks?pageSize=1000", {"x-user-id": large_page})
        assert len(whole.body) > 1_200_000


def test_a_connection_that_is_reset_leaves_nothing_in_memory(client: Client) -> None:
    def connections() -> int:
        gc.collect()
        return sum(type(each).__name__ in {"Connection", "H11Protocol"} for each in gc.get_objects())

    client.forget()
    before = connections()
    rest_attacks.resets(client.host, client.port, 50)
    until(lambda: connections() < before + 10)


# Number and size


def test_max_connections_closes_further_ones(sqlite_url: str) -> None:
    with serving(sqlite_url, max_connections=3) as client, ExitStack() as opened:
        for _ in range(3):
            connection = opened.enter_context(client.socket())
            connection.sendall(kept_alive("alice"))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        host, port = client.host, client.port
        assert rest_attacks.exchange(host, port, request("GET", "/healthz")) == b""
        connection.close()
        until(lambda: rest_attacks.exchange(host, port, request("GET", "/healthz")).startswith(b"HTTP/1.1 200 "))


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


@pytest.mark.parametrize(
    "headers", [(f"content-length: {2**30}",), (f"content-length: {2**30}", "expect: 100-continue")]
)
def test_max_message_bytes_refuses_a_long_body_before_it_arrives(client: Client, headers: tuple[str, ...]) -> None:
    with client.socket() as connection:
        connection.sendall(request("POST", "/v1/tasks", *headers, "x-user-id: alice"))
        refused = connection.recv(65536)
        while b"longer than" not in refused:
            refused += connection.recv(65536)
        [answer] = responses(refused)
        assert (answer.status, answer.reason, answer.headers["connection"]) == (413, "MESSAGE_TOO_LARGE", "close")


def test_max_message_bytes_refuses_chunks_when_they_exceed_it(client: Client) -> None:
    head = request("POST", "/v1/tasks", "x-user-id: alice", "transfer-encoding: chunked")
    with client.socket() as connection:
        connection.sendall(head + b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        for _ in range(3):
            connection.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        connection.sendall(b"1\r\n \r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_sends_all_of_a_long_body_reads_the_refusal(client: Client) -> None:
    body = b" " * 2_000_000
    raw = request("POST", "/v1/tasks", f"content-length: {len(body)}", "x-user-id: alice")
    [answer] = responses(client.exchange(raw + body))
    assert (answer.status, answer.reason) == (413, "MESSAGE_TOO_LARGE")


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
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000\r\n\r\n")
        for _ in range(3):
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


def test_a_call_is_cancelled_when_its_client_disconnects(postgresql_url: str) -> None:
    rows = Rows(postgresql_url)
    with serving(postgresql_url, max_in_flight=1, max_call_seconds=600) as client:
        api = RestApi(client)
        task = api.create()

        def is_busy() -> bool:
            return api.send("GET", "/v1/tasks").status == 429

        with rows.locked():
            with client.socket() as connection:
                completion = kept_alive(api.user, f"/v1/tasks/{task.id}:complete").replace(b"GET", b"POST", 1)
                connection.sendall(completion)
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
