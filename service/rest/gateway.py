"""The ASGI application: turns each HTTP request into a call, and its result into a response."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import structlog
from google.protobuf.message import Message
from grpc import StatusCode
from grpc.aio import AioRpcError
from starlette.types import Receive, Scope, Send

from service.errors import InvalidArgument, ShuttingDown, break_reference_cycles
from service.rest.headers import JSON, MERGE_PATCH, Head, Hosts, invalid_header, parse_timeout, read_head
from service.rest.http_error import CLOSE, HttpError
from service.rest.json_codec import to_json
from service.rest.preconditions import apply_if_match, is_known
from service.rest.request_body import RequestBody
from service.rest.responses import JSON_HEADERS, Response, response_to_http_error, response_to_rpc_error
from service.rest.routes import Route, Routes, method_unknown

_log = structlog.get_logger("rest")

# A call that takes longer than this is cancelled when its client disconnects (s). Most calls end before, and then
# nothing has to wait for the client.
_WATCH_AFTER = 0.1

# Larger bodies (bytes) are parsed only for callers who may make the call.
_LARGE_BODY = 4096

Page = Callable[[Mapping[bytes, bytes]], Awaitable[Response]]
"""Responds to GET by the headers of the request."""
Metadata = Sequence[tuple[str, str]]


class Calls(Protocol):
    """A client of the gRPC server. Its methods raise AioRpcError with google.rpc.Status among the trailers."""

    async def call(self, method: str, request: bytes, metadata: Metadata, seconds: float | None) -> Message:
        """Make a unary call, with `seconds` until its deadline."""
        ...

    async def admit(self, method: str, metadata: Metadata) -> str | None:
        """Check that the caller may make this call, and return the user."""
        ...


class Rules(NamedTuple):
    """Limits of requests, and the headers that are forwarded."""

    forwarded: Mapping[bytes, str]
    """Headers that become metadata of the call, with the metadata key of each."""
    challenge: bytes
    """WWW-Authenticate of a 401."""
    hosts: Hosts
    max_head_bytes: int
    max_body_bytes: int
    body_seconds: float


class Gateway:
    """Serves the routes by calls, and pages by their exact paths."""

    def __init__(self, routes: Routes, calls: Calls, rules: Rules, pages: Mapping[str, Page]) -> None:
        self._routes, self._calls, self._rules, self._pages = routes, calls, rules, pages
        self._is_draining = False

    def drain(self) -> None:
        """Ask clients to close their connections, with every response from now on."""
        self._is_draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(scope, receive)
        except asyncio.CancelledError:
            if not self._is_draining:
                return  # the client has disconnected
            refusal = HttpError(str(ShuttingDown()), ShuttingDown.reason, 503, StatusCode.UNAVAILABLE)
            response = response_to_http_error(refusal)
        if response.body:
            response.headers.append((b"content-length", b"%d" % len(response.body)))
        if self._is_draining and CLOSE not in response.headers:
            response.headers.append(CLOSE)
        await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        body = None
        try:
            target = len(scope["raw_path"]) + len(scope["query_string"])
            head = read_head(target, scope["headers"], self._rules.forwarded, self._rules.max_head_bytes)
            body = RequestBody(head.values, receive, self._rules.max_body_bytes, self._rules.body_seconds)
            self._rules.hosts.require(head.values.get(b"host"))
            response = await self._route(scope, head, body, receive)
        except (HttpError, InvalidArgument) as error:
            response = response_to_http_error(error)
            break_reference_cycles(error)
        except Exception as error:  # noqa: BLE001 - the outermost frame: every error gets a response
            error_id = uuid.uuid4()
            _log.error("rest", error_id=str(error_id), exc_info=error)
            sentence = f"Something went wrong in the service; it was logged under the id {error_id}."
            response = response_to_http_error(HttpError(sentence, "INTERNAL", 500, StatusCode.INTERNAL))
        if body and not await body.discard():
            response.headers.append(CLOSE)
        return response

    async def _route(self, scope: Scope, head: Head, body: RequestBody, receive: Receive) -> Response:
        http_method, path = scope["method"], scope["raw_path"].decode("ascii")
        if page := self._pages.get(path):
            if http_method in {"GET", "HEAD"}:
                return await page(head.values)
            allowed = ["GET", "HEAD", "OPTIONS"]
            if http_method != "OPTIONS":
                raise method_unknown(http_method, allowed)
            return _options(allowed)
        if http_method == "OPTIONS" and (allowed := self._routes.allowed(path)):
            return _options(allowed)
        route, match = self._routes.find(http_method, path)
        try:
            try:
                timeout = parse_timeout(head.values.get(b"grpc-timeout"))
                content = await body.read(is_patch=http_method == "PATCH")
                if len(content) > _LARGE_BODY:
                    await self._calls.admit(route.call, head.metadata)
                request = route.parse(match, scope["query_string"], content)
                _apply_conditions(request, route, head.values)
            except (HttpError, InvalidArgument) as refusal:
                # A caller who may not make the call learns that, and not what else is wrong with the request.
                user = await self._calls.admit(route.call, head.metadata)
                _log.info("refused", call=route.call, user=user, reason=refusal.reason, message=str(refusal))
                raise
            call = self._calls.call(route.call, request.SerializeToString(), head.metadata, timeout)
            message = await _unless_disconnected(call, receive)
        except AioRpcError as error:
            return response_to_rpc_error(error, self._rules.challenge, has_if_match=b"if-match" in head.values)
        return _response_to_message(message, route, head.values)


async def _unless_disconnected(call: Awaitable[Message], receive: Receive) -> Message:
    """Await a call, and cancel it when its client disconnects."""
    caller = asyncio.current_task()
    watching: list[asyncio.Task[None]] = []

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        assert caller
        caller.cancel()

    loop = asyncio.get_running_loop()
    timer = loop.call_later(_WATCH_AFTER, lambda: watching.append(loop.create_task(watch())))
    try:
        return await call
    finally:
        timer.cancel()
        for each in watching:
            each.cancel()


def _apply_conditions(request: Message, route: Route, values: Mapping[bytes, bytes]) -> None:
    """Make the call conditional as the headers ask. Raises HttpError."""
    if b"if-none-match" in values and route.http_method != "GET":
        raise invalid_header("if-none-match", "is heeded by GET alone: leave it out")
    if b"if-match" in values:
        apply_if_match(values[b"if-match"], request, route.etag)


def _response_to_message(message: Message, route: Route, values: Mapping[bytes, bytes]) -> Response:
    """Return the response for a call that succeeded."""
    if not route.answers_etag:
        return Response(200, [*JSON_HEADERS], to_json(message, route.response_body))
    etag: str = message.etag  # type: ignore[attr-defined]  # says the descriptor
    headers = [*JSON_HEADERS, (b"etag", f'"{etag}"'.encode())]
    if b"if-none-match" in values and is_known(values[b"if-none-match"], etag):
        return Response(304, headers[1:], b"")
    return Response(200, headers, to_json(message, route.response_body))


def _options(methods: Sequence[str]) -> Response:
    headers = [(b"allow", ", ".join(methods).encode())]
    if "PATCH" in methods:
        headers.append((b"accept-patch", b", ".join((JSON, MERGE_PATCH))))  # RFC 5789, 3.1
    return Response(204, headers, b"")
