"""The ASGI application: turns each HTTP request into a call, and its result into a response."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import structlog
from google.protobuf.message import Message
from grpc import StatusCode
from grpc.aio import AioRpcError
from starlette.types import Receive, Scope, Send

from service.call_record import REQUEST_ID_KEY, CallRecord, RequestIds, current_call
from service.errors import InvalidArgument, ShuttingDown, break_reference_cycles
from service.rest.headers import JSON, MERGE_PATCH, Head, parse_timeout, read_head, require_host
from service.rest.preconditions import apply_conditions, is_known
from service.rest.request_body import RequestBody
from service.rest.responses import (
    CLOSE,
    JSON_HEADERS,
    HttpError,
    Response,
    response_to_http_error,
    response_to_rpc_error,
    to_json,
)
from service.rest.routes import Route, Routes, method_unknown

_log = structlog.get_logger("rest")

_REQUEST_ID = REQUEST_ID_KEY.encode()

Page = Callable[[Mapping[bytes, bytes]], Awaitable[Response]]
"""Responds to GET by the headers of the request."""
Metadata = Sequence[tuple[str, str]]


class Calls(Protocol):
    """A client of the gRPC server. Its methods raise AioRpcError with google.rpc.Status among the trailers."""

    async def call(self, method: str, request: bytes, metadata: Metadata, seconds: float | None) -> Message:
        """Make a unary call, with `seconds` until its deadline."""
        ...

    async def admit(self, method: str, metadata: Metadata, *, counts: bool) -> str | None:
        """Check that the caller may make this call, and return the user. It `counts` for the rate limit or not."""
        ...


class Rules(NamedTuple):
    """Limits of requests, and the headers that are forwarded."""

    forwarded: Mapping[bytes, str]
    """Headers that become metadata of the call, with the metadata key of each."""
    challenge: bytes
    """WWW-Authenticate of a 401."""
    hosts: Collection[str] | None
    """Host names that requests may ask for; None for any."""
    max_head_bytes: int
    max_body_bytes: int
    body_seconds: float


class Gateway:
    """Serves the routes by calls, and pages by their exact paths.

    `on_error` is called with the reason of each request that is refused before it becomes a call.
    """

    def __init__(
        self,
        routes: Routes,
        calls: Calls,
        rules: Rules,
        pages: Mapping[str, Page],
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._routes, self._calls, self._rules, self._pages = routes, calls, rules, pages
        self._request_ids = RequestIds()
        self._on_error = on_error
        self._is_draining = False

    def drain(self) -> None:
        """Ask clients to close their connections, with every response from now on."""
        self._is_draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, request_id = None, self._begin(scope)
        try:
            target = len(scope["raw_path"]) + len(scope["query_string"])
            head = read_head(target, scope["headers"], self._rules.forwarded, self._rules.max_head_bytes)
            head.metadata.append((REQUEST_ID_KEY, request_id))
            body = RequestBody(head.values, receive, self._rules.max_body_bytes, self._rules.body_seconds)
            response = await self._respond(scope, head, body)
            is_kept = await body.keeps_connection()
        except HttpError as error:
            response, is_kept = self._refuse(error), False
        except asyncio.CancelledError:
            if not self._is_draining:
                raise  # the client has disconnected
            refusal = HttpError(str(ShuttingDown()), "SHUTTING_DOWN", 503, StatusCode.UNAVAILABLE)
            response, is_kept, body = self._refuse(refusal), False, None
        response.headers.append((_REQUEST_ID, request_id.encode()))
        if response.body:
            response.headers.append((b"content-length", b"%d" % len(response.body)))
        if self._is_draining or not is_kept:
            response.headers.append(CLOSE)
        await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        if body and not is_kept:  # the client may still send, and a reset would lose the response
            await send({"type": "http.response.body", "body": response.body, "more_body": True})
            await body.discard()
            response = response._replace(body=b"")
        await send({"type": "http.response.body", "body": response.body})

    def _begin(self, scope: Scope) -> str:
        """Return the id of a request, and name it in all log lines of its task."""
        given = ((REQUEST_ID_KEY, value.decode("latin-1")) for name, value in scope["headers"] if name == _REQUEST_ID)
        request_id = self._request_ids.of(given)
        record = CallRecord(request_id, "rest", time.perf_counter())
        if client := scope.get("client"):
            host, port = client
            record.peer = f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"
        current_call.set(record)
        return request_id

    async def _respond(self, scope: Scope, head: Head, body: RequestBody) -> Response:
        try:
            require_host(head.values.get(b"host"), self._rules.hosts)
            return await self._route(scope, head, body)
        except (HttpError, InvalidArgument) as error:
            response = self._refuse(error)
            break_reference_cycles(error)
        except Exception as error:  # noqa: BLE001 - the outermost frame: every error gets a response
            error_id = uuid.uuid4()
            _log.error("rest", error_id=str(error_id), exc_info=error)
            sentence = f"Something went wrong in the service; it was logged under the id {error_id}."
            response = self._refuse(HttpError(sentence, "INTERNAL", 500, StatusCode.INTERNAL))
        return response

    def _refuse(self, error: HttpError | InvalidArgument) -> Response:
        self._on_error(error.reason)
        return response_to_http_error(error)

    async def _route(self, scope: Scope, head: Head, body: RequestBody) -> Response:
        http_method, path = scope["method"], scope["raw_path"].decode("ascii")
        page = self._pages.get(path)
        if page and http_method in {"GET", "HEAD"}:
            return await page(head.values)
        allowed = ["GET", "HEAD", "OPTIONS"] if page else []
        if http_method == "OPTIONS":
            allowed = allowed or self._routes.allowed(path)
        if allowed:
            if http_method != "OPTIONS":
                raise method_unknown(http_method, allowed)
            accepted = (
                [(b"accept-patch", b", ".join((JSON, MERGE_PATCH)))] if "PATCH" in allowed else []
            )  # RFC 5789, 3.1
            return Response(204, [(b"allow", ", ".join(allowed).encode()), *accepted], b"")
        route, match = self._routes.find(http_method, path)
        scope["taskwell.route"] = route.template  # for service/tracing/http.py
        try:
            if not body.is_received:
                await self._calls.admit(route.call, head.metadata, counts=False)
            try:
                timeout = parse_timeout(head.values.get(b"grpc-timeout"))
                content = await body.read(is_patch=http_method == "PATCH")
                request = route.parse(match, scope["query_string"], content)
                apply_conditions(request, route, head.values)
            except (HttpError, InvalidArgument) as refusal:
                # A caller who may not make the call learns that, and not what else is wrong with the request.
                user = await self._calls.admit(route.call, head.metadata, counts=True)
                _log_refusal(refusal, route, user)
                raise
            message = await self._calls.call(route.call, request.SerializeToString(), head.metadata, timeout)
        except AioRpcError as error:
            return response_to_rpc_error(error, self._rules.challenge, has_if_match=b"if-match" in head.values)
        return _response_to_message(message, route, head.values)


def _log_refusal(error: HttpError | InvalidArgument, route: Route, user: str | None) -> None:
    """Log a request that did not become a call, with the fields of one that failed."""
    code = error.code if isinstance(error, HttpError) else StatusCode.INVALID_ARGUMENT
    record = current_call.get()
    seconds = {"seconds": round(time.perf_counter() - record.started, 6)} if record else {}
    fields = {"method": route.call, "code": code.name, "reason": error.reason, "message": str(error)}
    _log.info("rpc", **fields, user=user, api="rest", **seconds)


def _response_to_message(message: Message, route: Route, values: Mapping[bytes, bytes]) -> Response:
    """Return the response for a call that succeeded."""
    if not route.answers_etag:
        return Response(200, [*JSON_HEADERS], to_json(message))
    etag: str = message.etag  # type: ignore[attr-defined]  # says the descriptor
    headers = [*JSON_HEADERS, (b"etag", f'"{etag}"'.encode())]
    if b"if-none-match" in values and is_known(values[b"if-none-match"], etag):
        return Response(304, headers[1:], b"")
    return Response(200, headers, to_json(message))
