"""Attacks on the REST gateway with raw bytes. Each takes a host and a port, and is bounded in number and time.

An attack returns how many of its connections the server had closed at the end, so that a test can wait for that.
"""

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

USER = "mallory"
HEAD = f"HTTP/1.1\r\nhost: localhost\r\nx-user-id: {USER}\r\n"
LIMIT = 65_536 - 100  # bytes of a body that is just taken


def get(target: str, headers: str = "") -> bytes:
    return f"GET {target} {HEAD}connection: close\r\n{headers}\r\n".encode("latin-1")


def post(body: bytes, target: str = "/v1/tasks", method: str = "POST", headers: str = "") -> bytes:
    length = "" if "transfer-encoding" in headers else f"content-length: {len(body)}\r\n"
    return f"{method} {target} {HEAD}connection: close\r\n{length}{headers}\r\n".encode("latin-1") + body


def repeated(before: str, middle: str, after: str, size: int = LIMIT) -> bytes:
    return (before + middle * ((size - len(before) - len(after)) // len(middle)) + after).encode()


def _query(*parameters: str) -> bytes:
    return get(f"/v1/tasks?{'&'.join(parameters)}")


def _patch(query: str) -> bytes:
    return post(b'{"title": "x"}', f"/v1/tasks/01a1fd9a-2d17-73ac-9e00-4a78b57254ae?{query}", "PATCH")


HEAVY: dict[str, bytes] = {
    "query: 100 unknown parameters": _query(*(f"{number}=x" for number in range(100))),
    "query: 3,000 parameters": _query(*(f"{number}=x" for number in range(2_000))),
    "query: separators": get("/v1/tasks?" + "&" * 15_000),
    "query: long path of a field": get("/v1/tasks?" + "task." * 2_900 + "=x"),
    "query: escapes": get("/v1/tasks?pageToken=" + "%41" * 4_900),
    "query: escapes that are not UTF-8": get("/v1/tasks?pageToken=" + "%ff" * 4_900),
    "query: page token": get("/v1/tasks?pageToken=" + "A" * 15_000),
    "query: digits": get("/v1/tasks?pageSize=" + "9" * 15_000),
    "query: order": get("/v1/tasks?orderBy=" + "title," * 2_400),
    "query: updateMask of thousands of paths": _patch("updateMask=" + "title," * 2_400),
    "query: updateMask of underscores": _patch("updateMask=" + "a_" * 7_000),
    "query: updateMask of commas": _patch("updateMask=" + "," * 15_000),
    "query: updateMask of dots": _patch("updateMask=" + "a." * 7_000),
    "path: slashes": get("/v1/tasks" + "/" * 15_000),
    "path: colons": get("/v1/tasks/" + ":" * 15_000),
    "path: escapes": get("/v1/tasks/" + "%41" * 4_900),
    "headers: hundreds": get("/v1/tasks", "a: b\r\n" * 440),
    "headers: empty ones": get("/v1/tasks", "a:\r\n" * 3_900),
    "headers: folded": get("/v1/tasks", "a: b\r\n" + " x\r\n" * 3_900),
    "headers: callers": get("/v1/tasks", "x-user-id: a\r\n" * 350),
    "headers: if-match": post(b"{}", "/v1/tasks/1", "DELETE", 'if-match: "' + "a" * 15_000 + '"\r\n'),
    "headers: if-none-match": get("/v1/tasks/1", "if-none-match: " + '"a",' * 3_500 + "\r\n"),
    "headers: content-type": post(b"{}", headers="content-type: application/json" + " ;" * 7_000 + '"\r\n'),
    "headers: quoted content-type": post(b"{}", headers="content-type: application/json" + '; a="' * 3_000 + "\r\n"),
    "headers: grpc-timeout": get("/v1/tasks", "grpc-timeout: " + "9" * 15_000 + "S\r\n"),
    "headers: host": get("/v1/tasks").replace(b"localhost", b"[" + b":" * 15_000 + b"]"),
    "JSON: lists in lists": post(b"[" * LIMIT),
    "JSON: objects in objects": post(b'{"a":' * (LIMIT // 5)),
    "JSON: lists in a field": post(b'{"title": ' + b"[" * 900 + b"]" * 900 + b"}"),
    "JSON: objects in a field": post(b'{"createTime": ' + b'{"a":' * 900 + b"1" + b"}" * 901),
    "JSON: a huge number": post(b'{"status": ' + b"9" * 4_000 + b"}"),
    "JSON: more digits than Python takes": post(b'{"status": ' + b"9" * 60_000 + b"}"),
    "JSON: huge numbers": post(b'{"status": [' + b",".join([b"9" * 4_000] * 16) + b"]}"),
    "JSON: a long fraction": post(repeated('{"status": 1.', "3", "}")),
    "JSON: a huge exponent": post(repeated('{"status": 1e', "9", "}")),
    "JSON: escapes": post(repeated('{"title": "', "\\u00e9", '"}')),
    "JSON: halves of surrogate pairs": post(repeated('{"title": "', "\\ud83d", '"}')),
    "JSON: unknown members": post(json.dumps({f"{number:x}": 0 for number in range(6_000)}).encode()),
    "JSON: a member named twice": post(repeated('{"title": "x"', ',"a": 0', "}")),
    "JSON: a long name": post(repeated('{"', "\\n", '": 0}')),
    "JSON: objects in a list": post(repeated('{"title": [', "{},", "0]}")),
    "JSON: lines": post(repeated("{", "\n", "x")),
    "JSON: a long time": post(repeated('{"createTime": "2026-01-01T00:00:00.', "9", 'Z"}')),
    "JSON: a long time zone": post(repeated('{"createTime": "2026-01-01T00:00:00+', "1", ':00"}')),
    "JSON: a title of spaces": post(repeated('{"title": "', " ", '"}')),
    "JSON: a title of controls": post(repeated('{"title": "', "\\u0000", '"}')),
    "chunks of one byte": post(b"1\r\n \r\n" * 43_000 + b"0\r\n\r\n", headers="transfer-encoding: chunked\r\n"),
    "trailers": post(b"0\r\n" + b"a:\r\n" * 3_900 + b"\r\n", headers="transfer-encoding: chunked\r\n"),
    "pipelined requests": get("/healthz").replace(b"connection: close\r\n", b"") * 2_000 + get("/healthz"),
}
"""The worst single requests (and what comes in one piece) that are known for each parser of the gateway."""


def exchange(host: str, port: int, request: bytes) -> bytes:
    """Send these bytes, and return all that comes back until the connection is closed."""
    with socket.create_connection((host, port), timeout=60) as connection, suppress(ConnectionError):
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


def silent(host: str, port: int, count: int, seconds: float) -> int:
    """Connections that never send anything."""
    return _hold(host, port, count, seconds, lambda _: None, b"")


def slow_heads(host: str, port: int, count: int, seconds: float) -> int:
    """Slowloris: heads of which a line is sent now and then."""
    return _hold(host, port, count, seconds, lambda each: each.send(b"a: b\r\n"), get("/v1/tasks")[:-2])


def slow_bodies(host: str, port: int, count: int, seconds: float) -> int:
    """Bodies of which a byte is sent now and then."""
    return _hold(host, port, count, seconds, lambda each: each.send(b" "), post(b" " * 60_000)[:-60_000])


def slow_readers(
    host: str, port: int, count: int, seconds: float, target: str = "/v1/tasks?pageSize=1000", user: str = USER
) -> int:
    """Clients that ask for a large page and take a byte now and then."""
    request = get(target).replace(b"connection: close\r\n", b"").replace(USER.encode(), user.encode())
    return _hold(host, port, count, seconds, lambda each: each.recv(1), request)


def resets(host: str, port: int, count: int) -> None:
    """Connections that are reset after one response."""
    for _ in range(count):
        with socket.create_connection((host, port), timeout=60) as connection:
            connection.sendall(get("/healthz").replace(b"connection: close\r\n", b""))
            connection.recv(65536)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def pipelines(host: str, port: int, count: int, seconds: float) -> int:
    """Connections that send requests without end, and take no response."""
    requests = get("/v1/tasks").replace(b"connection: close\r\n", b"") * 100
    return _hold(host, port, count, seconds, lambda each: each.send(requests), b"")


def endless_bodies(host: str, port: int, count: int, seconds: float) -> int:
    """Bodies far over the limit."""
    head = post(b"", headers="transfer-encoding: chunked\r\n")
    return _hold(host, port, count, seconds, lambda each: each.send(b"1000\r\n" + b" " * 4096 + b"\r\n"), head)


def _hold(
    host: str, port: int, count: int, seconds: float, go_on: Callable[[socket.socket], object], start: bytes
) -> int:
    """Open connections, go on with each ten times a second, and return how many the server had closed in the end."""
    with ExitStack() as opened:
        left = list(_connections(opened, host, port, count, start))
        ends = time.monotonic() + seconds
        while left and time.monotonic() < ends:
            left = [each for each in left if _is_open(each, go_on)]
            time.sleep(0.1)
        return count - len(left)


def _connections(opened: ExitStack, host: str, port: int, count: int, start: bytes) -> Iterator[socket.socket]:
    for _ in range(count):
        connection = opened.enter_context(socket.socket())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, port))
        connection.sendall(start)
        connection.setblocking(False)
        yield connection


def _is_open(connection: socket.socket, go_on: Callable[[socket.socket], object]) -> bool:
    """Go on with the attack. False if the server has closed the connection, even if it sent something before."""
    try:
        with suppress(BlockingIOError):
            go_on(connection)
    except ConnectionError:
        return False
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) if hasattr(socket, "TCP_INFO") else b"\1"
    return info[0] == 1  # TCP_ESTABLISHED
