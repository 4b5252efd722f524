"""Requests that no honest client sends, as bytes over a socket: none reaches another user's task, none is a fault."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from taskwell.v1 import tasks_pb2

from tests.rest.client import Client, Response, RestApi
from tests.rest.conftest import ANY_PORT
from tests.rpc.given import Rows
from tests.running import running_addresses, settings_for

VICTIM, SECRET = "the-victim", "what only the victim knows"
TASK_ID, NO_TASK = "01a1fd9a-2d17-73ac-9e00-4a78b57254ae", "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234"
PATH = f"/v1/tasks/{TASK_ID}"
JSON = "content-type: application/json"
CHUNKED = "transfer-encoding: chunked"
OF_THE_SERVER = "text/plain; charset=utf-8"
"""The type of what the HTTP server answers by itself, to what it cannot parse."""


def responses(raw: bytes) -> Iterator[Response]:
    """The answers on a connection that was closed in the end."""
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        status = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [\w -]*", head.split(b"\r\n")[0])
        assert status, raw[:200]
        headers = {
            name.lower(): value for name, value in (line.decode().split(": ", 1) for line in head.split(b"\r\n")[1:])
        }
        is_of_the_server = headers.get("content-type") == OF_THE_SERVER  # which then closes the connection
        length = len(rest) if is_of_the_server else int(headers.get("content-length", 0))
        yield Response(int(status[1]), headers, rest[:length])
        raw = rest[length:]


def request(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    """A request after which the connection is closed, framed as it should be."""
    length = [f"content-length: {len(body)}"] if body and CHUNKED not in headers else []
    lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1", "connection: close", *headers, *length, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def framed(*headers: str, body: bytes, version: str = "1.1") -> bytes:
    """Mallory's request whose end is where these headers say, and what is to be taken for another one behind it."""
    lines = [f"POST /v1/tasks HTTP/{version}", "host: 127.0.0.1", "x-user-id: mallory", JSON, *headers, "", ""]
    return "\r\n".join(lines).encode() + body + request("DELETE", PATH, f"x-user-id: {VICTIM}")


GET = ("GET", PATH)
ME = "x-user-id: mallory"
EVIL = b'{"title": "evil"}'

# Requests for the victim's task by somebody who has nothing that says who they are where it counts.
AS_NOBODY = {
    "Grpc-Metadata-": request(*GET, f"Grpc-Metadata-X-User-Id: {VICTIM}"),
    "grpc-metadata- with others": request(*GET, f"grpc-metadata-x-user-id: {VICTIM}", "x-user-id: mallory"),
    "grpcgateway-": request(*GET, f"grpcgateway-x-user-id: {VICTIM}"),
    "underscores": request(*GET, f"x_user_id: {VICTIM}"),
    "a prefix": request(*GET, f"x-user-id-: {VICTIM}"),
    "a binary key": request(*GET, f"x-user-id-bin: {VICTIM}"),
    "space before the colon": request(*GET, f"x-user-id : {VICTIM}"),
    "space before the name": request(*GET, "x-a: b", f" x-user-id: {VICTIM}"),
    "a header in a header": request(*GET, f"x-a: b\rx-user-id: {VICTIM}"),
    "NUL in the name": request(*GET, f"x-user-id\0: {VICTIM}"),
    "NUL in the value": request(*GET, f"x-user-id: {VICTIM}\0"),
    "named twice": request(*GET, "x-user-id: mallory", f"x-user-id: {VICTIM}"),
    "named twice, the other way": request(*GET, f"x-user-id: {VICTIM}", "X-USER-ID: mallory"),
    "named twice in one": request(*GET, f"x-user-id: mallory, {VICTIM}"),
    "named twice in one, without a space": request(*GET, f"x-user-id: mallory,{VICTIM}"),
    "an empty one first": request(*GET, "x-user-id:", f"x-user-id: {VICTIM}"),
    "other letters": request(*GET, f"x-user-id: {VICTIM.upper()}"),
    "quoted": request(*GET, f'x-user-id: "{VICTIM}"'),
    "percent-encoded": request(*GET, f"x-user-id: {VICTIM.replace('-', '%2D')}"),
    "not ASCII": request(*GET, f"x-user-id: {VICTIM}\xad"),
    "in the connection header": request(*GET, "connection: x-user-id", f"x-user-i: {VICTIM}"),
    "forwarded": request(*GET, f"x-forwarded-user: {VICTIM}", f"forwarded: for={VICTIM}", f"remote-user: {VICTIM}"),
    "a cookie": request(*GET, f"cookie: x-user-id={VICTIM}"),
    "basic": request(*GET, f"authorization: Basic {VICTIM}"),
    "a bearer token": request(*GET, f"authorization: Bearer {VICTIM}"),
    "in the query": request("GET", f"{PATH}?x-user-id={VICTIM}"),
    "in the query, as metadata": request("GET", f"{PATH}?grpc-metadata-x-user-id={VICTIM}"),
    "user info": request("GET", f"http://{VICTIM}@127.0.0.1{PATH}"),
    "in a trailer": request(
        "PATCH",
        PATH,
        JSON,
        CHUNKED,
        "trailer: x-user-id",
        body=b"11\r\n%b\r\n0\r\nx-user-id: %b\r\n\r\n" % (EVIL, VICTIM.encode()),
    ),
    "in an extension of a chunk": request(
        "PATCH",
        PATH,
        JSON,
        CHUNKED,
        body=b"11;x-user-id=%b\r\n%b\r\n0\r\n\r\n" % (VICTIM.encode(), EVIL),
    ),
    "in the body": request("PATCH", PATH, JSON, body=b'{"title": "evil", "userId": "%b"}' % VICTIM.encode()),
}

# What Mallory, who is a user, may try to reach it with.
AS_ANOTHER = {
    "plainly": request(*GET, ME),
    "upper case": request("GET", f"/v1/tasks/{TASK_ID.upper()}", ME),
    "method override": request("POST", f"{PATH}:complete", ME, "X-HTTP-Method-Override: DELETE"),
    "method override, on what is there": request("GET", "/v1/tasks", ME, "x-http-method-override: DELETE"),
    "another override": request("GET", PATH, ME, "x-method-override: DELETE", "x-http-method: DELETE"),
    "override in the query": request("POST", f"{PATH}?_method=DELETE", ME),
    "override in a form": request(
        "POST", PATH, ME, "content-type: application/x-www-form-urlencoded", body=b"_method=DELETE"
    ),
    "path override": request("GET", "/healthz", ME, f"x-original-url: {PATH}", f"x-rewrite-url: {PATH}"),
    "prefix": request("GET", f"/v1/tasks/{NO_TASK}", ME, f"x-forwarded-prefix: {PATH}"),
    "dots": request("GET", f"/v1/tasks/{NO_TASK}/../{TASK_ID}", ME),
    "encoded dots": request("GET", f"/v1/tasks/{NO_TASK}/%2e%2e/{TASK_ID}", ME),
    "dots and a slash": request("GET", f"/v1/tasks/..%2f{TASK_ID}", ME),
    "encoded slashes": request("GET", f"/v1%2ftasks%2f{TASK_ID}", ME),
    "twice encoded": request("GET", f"/v1/tasks/%25{ord(TASK_ID[0]):x}{TASK_ID[1:]}", ME),
    "backslashes": request("GET", f"\\v1\\tasks\\{TASK_ID}", ME),
    "two slashes": request("GET", f"//v1/tasks/{TASK_ID}", ME),
    "two slashes within": request("GET", f"/v1//tasks//{TASK_ID}", ME),
    "NUL": request("GET", f"{PATH}%00", ME),
    "line break": request("GET", f"{PATH}%0d%0ax-user-id:%20{VICTIM}", ME),
    "a parameter": request("GET", f"{PATH};x=y", ME),
    "a fragment": request("GET", f"{PATH}#x", ME),
    "absolute": request("GET", f"http://127.0.0.1{PATH}", ME),
    "absolute, elsewhere": request("GET", f"http://evil.example{PATH}", ME),
    "another scheme": request("GET", f"file://{PATH}", ME),
    "no slash": request("GET", PATH[1:], ME),
    "authority": request("CONNECT", "127.0.0.1:80", ME),
    "asterisk": request("OPTIONS", "*", ME),
    "the id in the query": request("GET", f"/v1/tasks/{NO_TASK}?id={TASK_ID}", ME),
    "the id in the body": request(
        "PATCH", f"/v1/tasks/{NO_TASK}", ME, JSON, body=b'{"id": "%b", "title": "evil"}' % TASK_ID.encode()
    ),
    "the id in the query of a PATCH": request("PATCH", f"/v1/tasks/{NO_TASK}?task.id={TASK_ID}", ME, JSON, body=EVIL),
    "allow_missing": request("DELETE", f"{PATH}?allow_missing=true", ME),
    "If-Match: *": request("PUT", PATH, ME, JSON, "if-match: *", body=EVIL),
    "its etag": request("DELETE", PATH, ME, 'if-match: "1"'),
    "If-None-Match: *": request("GET", PATH, ME, "if-none-match: *"),
    "two hosts": request(*GET, ME, "host: 127.0.0.1"),
    "length and chunks": framed(CHUNKED, "content-length: 5", body=b"0\r\n\r\n"),
    "chunks and length": framed("content-length: 5", CHUNKED, body=b"0\r\n\r\n"),
    "two lengths": framed("content-length: 2", "content-length: 300", body=b"{}"),
    "two lengths in one": framed("content-length: 2, 300", body=b"{}"),
    "a signed length": framed("content-length: +2", body=b"{}"),
    "a hexadecimal length": framed("content-length: 0x2", body=b"{}"),
    "a negative length": framed("content-length: -1", body=b"{}"),
    "a length beyond numbers": framed(f"content-length: {2**64 + 2}", body=b"{}"),
    "chunked, spelt oddly": framed("transfer-encoding: xchunked", body=b"0\r\n\r\n"),
    "chunked after a tab": framed("transfer-encoding:\t chunked,identity", body=b"0\r\n\r\n"),
    "chunked twice": framed(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "compressed chunks": framed("transfer-encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "compressed chunks on two lines": framed("transfer-encoding: gzip", CHUNKED, body=b"0\r\n\r\n"),
    "chunks in HTTP/1.0": framed(CHUNKED, body=b"0\r\n\r\n", version="1.0"),
    "a chunk of no size": framed(CHUNKED, body=b"zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk without an end": framed(CHUNKED, body=b"2\r\n{}xx0\r\n\r\n"),
    "a chunk beyond numbers": framed(CHUNKED, body=b"fffffffffffffffff\r\n{}"),
    "lines that end in line feeds": request(*GET, ME).replace(b"\r\n", b"\n"),
    "HTTP/0.9": f"GET {PATH}\r\n\r\n".encode(),
    "HTTP/2.0": request(*GET, ME).replace(b"HTTP/1.1", b"HTTP/2.0"),
    "HTTP/1.10": request(*GET, ME).replace(b"HTTP/1.1", b"HTTP/1.10"),
    "TLS": bytes.fromhex("160301020001000001fc0303") + bytes(500),
    "an upgrade": request(*GET, ME, "connection: upgrade", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__"),
    "an upgrade with a body": request("PATCH", PATH, ME, JSON, "connection: upgrade", "upgrade: h2c", body=EVIL),
    "a websocket": request(
        *GET,
        ME,
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
    ),
    "a fragment, and more": request("GET", f"/v1/tasks#{PATH}", ME),
    "a long target": request("GET", f"{PATH}?page_token={'x' * 20_000}", ME),
    "a long header": request(*GET, ME, f"x-a: {'x' * 20_000}"),
    "many headers": request(*GET, ME, *["x: y"] * 1000),
    "a long name": request(*GET, ME, f"{'x' * 20_000}: y"),
    "headers without an end": request(*GET, ME, f"x-a: {'x' * 20_000}")[:-4],
    "a method that is none": request("GE T", PATH, ME),
    "a method of its own": request("TASKS", PATH, ME),
    "a long method": request("G" * 10_000, PATH, ME),
    "nothing but line breaks": b"\r\n" * 2000 + request(*GET, ME),
    "a second request in the first": request("GET", f"/v1/tasks HTTP/1.1\r\nx-user-id: {VICTIM}\r\nx: ", ME),
}


@pytest.fixture(scope="module")
def client(sqlite_url: str) -> Iterator[Client]:
    """A service that does not wait long for bodies."""
    with running_addresses(settings_for(sqlite_url, rest_address=ANY_PORT, rest_request_timeout=1)) as addresses:
        client = Client(addresses.rest)
        yield client
        client.close()


@pytest.fixture(scope="module")
def victim(client: Client, sqlite_url: str) -> tasks_pb2.Task:
    """A task that must stay as it is and be seen by nobody else."""
    rows = Rows(sqlite_url)
    rows.insert_user(VICTIM)
    rows.insert_tasks(VICTIM, [datetime.now(UTC)], ids=[UUID(TASK_ID)], description=SECRET)
    return RestApi(client, VICTIM).get(TASK_ID)


def attacked(client: Client, raw: bytes) -> list[Response]:
    """What comes of an attack, if it is not a fault."""
    told = client.exchange(raw)
    answers = list(responses(told))
    assert answers
    assert SECRET.encode() not in told
    for answer in answers:
        assert answer.status < 500
        assert answer.status < 400 or answer.headers["content-type"] == OF_THE_SERVER or answer.reason
    return answers


def is_as_it_was(client: Client, victim: tasks_pb2.Task) -> bool:
    return [victim] == list(RestApi(client, VICTIM).list().tasks)


@pytest.mark.parametrize("raw", AS_NOBODY.values(), ids=AS_NOBODY)
def test_who_is_not_the_victim_is_not_taken_for_them(client: Client, victim: tasks_pb2.Task, raw: bytes) -> None:
    for answer in attacked(client, raw):
        assert answer.status in {400, 401, 404}
    assert is_as_it_was(client, victim)


@pytest.mark.parametrize("raw", AS_ANOTHER.values(), ids=AS_ANOTHER)
def test_another_user_does_not_reach_the_task(client: Client, victim: tasks_pb2.Task, raw: bytes) -> None:
    [answer] = attacked(client, raw)
    assert TASK_ID.encode() not in answer.body
    assert is_as_it_was(client, victim)


UNCLEAR = [
    "two hosts",
    *(name for name, raw in AS_ANOTHER.items() if raw.startswith(b"POST /v1/tasks HTTP/1.") and b"DELETE" in raw),
]


@pytest.mark.parametrize("name", UNCLEAR)
def test_a_request_that_two_servers_could_read_in_two_ways_ends_the_connection(client: Client, name: str) -> None:
    [answer] = attacked(client, AS_ANOTHER[name])
    assert answer.status in {400, 408, 413}
    assert answer.headers["connection"] == "close"


def test_a_request_with_both_lengths_is_refused_by_the_gateway(client: Client) -> None:
    for name in ("length and chunks", "chunks and length"):
        [answer] = attacked(client, AS_ANOTHER[name])
        assert (answer.status, answer.reason, answer.headers["connection"]) == (400, "REQUEST_MALFORMED", "close")


@pytest.mark.usefixtures("victim")
def test_the_attacks_would_be_seen(client: Client) -> None:
    told = client.exchange(request(*GET, f"x-user-id: {VICTIM}"))
    [answer] = responses(told)
    assert (answer.status, answer.json["description"]) == (200, SECRET)
    assert len(AS_NOBODY) + len(AS_ANOTHER) >= 40
    pipelined = framed("content-length: 14", body=b'{"title": "x"}').replace(b"DELETE", b"GET", 1)
    assert [answer.status for answer in responses(client.exchange(pipelined))] == [200, 200]
