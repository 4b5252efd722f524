"""The door: an ASGI application that makes a call of each request, and an answer of what comes of it."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import structlog
from google.protobuf.message import Message
from grpc import StatusCode
from grpc.aio import AioRpcError
from starlette.routing import Route as Page
from starlette.types import Receive, Scope, Send

from service.errors import break_reference_cycles
from service.rest import headers
from service.rest.conditions import apply_if_match, is_known
from service.rest.errors import USUAL, Answer, of_call, of_refusal
from service.rest.incoming import too_long
from service.rest.messages import printed
from service.rest.refusals import Refusal
from service.rest.routes import Route, Routes, method_unknown

_log = structlog.get_logger("rest")

# No message of any type can be decoded from this: a number that does not end.
_UNREADABLE = b"\xff"


class Call(Protocol):
    """A client of the gRPC server: makes a unary call. Raises AioRpcError with google.rpc.Status among its trailers."""

    async def __call__(
        self,
        method: str,
        request: bytes,
        metadata: Sequence[tuple[str, str]],
        seconds: float | None,
        connection: Mapping[str, Sequence[bytes]],
    ) -> Message: ...


class Terms(NamedTuple):
    """What requests must keep to, and what of them crosses."""

    crossing: Mapping[bytes, str]
    """The headers that cross to the call, by what they are called in its metadata."""
    challenge: bytes
    """How to say who is calling (WWW-Authenticate)."""
    max_body_bytes: int
    hosts: headers.Hosts


class Door:
    """Serves the routes by calls, and pages, each of which has a path of its own, beside them."""

    def __init__(self, routes: Routes, call: Call, terms: Terms, pages: Sequence[Page] = ()) -> None:
        self._routes = routes
        self._call = call
        self._terms = terms
        self._pages = {page.path: page for page in pages}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._terms.hosts.require(scope["headers"])
            if page := self._pages.get(scope["raw_path"].decode("ascii")):
                if scope["method"] in {"GET", "HEAD"}:
                    await page.handle(scope, receive, send)
                    return
                answer = _of_page(scope["method"])
            else:
                answer = await self._answer(scope, receive)
        except Refusal as refusal:
            answer = of_refusal(refusal)
            break_reference_cycles(refusal)
        except Exception as error:  # noqa: BLE001 - nothing may get past the door
            error_id = uuid.uuid4()
            _log.error("rest", error_id=str(error_id), exc_info=error)
            sentence = f"Something went wrong in the service; it was logged under the id {error_id}."
            answer = of_refusal(Refusal(sentence, "INTERNAL", 500, StatusCode.INTERNAL))
        if answer.body:
            answer.headers.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        http_method, path = scope["method"], scope["raw_path"].decode("ascii")
        if http_method == "OPTIONS" and (allowed := self._routes.allowed(path)):
            return _allowed(allowed)
        route, match = self._routes.find(http_method, path)
        metadata, read = headers.sorted_out(scope["headers"], self._terms.crossing)
        timeout = refusal = None
        try:
            timeout = headers.timeout_of(read.get(b"grpc-timeout"))
            request = route.read(match, scope["query_string"], await self._body(read, receive))
            requests = [each.SerializeToString() for each in _conditioned(request, route, read)]
        except Refusal as found:
            # The call is made all the same: who may not make it is told that, and not what else is wrong.
            refusal, requests = found, [_UNREADABLE]
        try:
            message = await self._first(route.call, requests, metadata, timeout, scope["state"]["certificate"])
        except AioRpcError as error:
            if refusal and error.code() is StatusCode.INVALID_ARGUMENT:
                _log.info("refused", call=route.call, reason=refusal.reason, message=str(refusal))
                raise refusal from None
            return of_call(error, self._terms.challenge, on_condition=b"if-match" in read)
        if not route.answers_etag:
            return Answer(200, [*USUAL], printed(message, route.response_body))
        etag: str = message.etag  # type: ignore[attr-defined]  # says the descriptor
        tagged = [*USUAL, (b"etag", f'"{etag}"'.encode())]
        if b"if-none-match" in read and is_known(read[b"if-none-match"], etag):
            return Answer(304, tagged[1:], b"")
        return Answer(200, tagged, printed(message, route.response_body))

    async def _first(self, call: str, requests: Sequence[bytes], *how: Any) -> Message:  # noqa: ANN401 - as Call has it
        """The answer to the first of these requests that finds the etag that it is conditional on."""
        *others, last = requests
        for request in others:
            try:
                return await self._call(call, request, *how)
            except AioRpcError as error:
                if error.code() is not StatusCode.ABORTED:
                    raise
        return await self._call(call, last, *how)

    async def _body(self, read: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """What the request brings along. Raises Refusal for what is too long or no JSON."""
        headers.require_expectation(read)
        if read.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in read:
            return b""
        headers.require_json(read)
        if b"expect" in read and int(read.get(b"content-length", b"0")) > self._terms.max_body_bytes:
            raise too_long(self._terms.max_body_bytes)
        body, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError  # as if it had been noticed by the connection
            size += len(message["body"])
            more = message["more_body"]
            if size <= self._terms.max_body_bytes:
                body.append(message["body"])
        if size > self._terms.max_body_bytes:
            raise too_long(self._terms.max_body_bytes)  # read to its end all the same, so that the client hears why
        return b"".join(body)


def _conditioned(request: Message, route: Route, read: Mapping[bytes, bytes]) -> Sequence[Message]:
    """The requests to try in turn, so that what the headers ask for is heeded. Raises Refusal."""
    if b"if-none-match" in read and route.http_method != "GET":
        raise headers.invalid("if-none-match", "is heeded by GET alone: leave it out")
    return apply_if_match(read[b"if-match"], request, route.etag) if b"if-match" in read else [request]


def _allowed(methods: Sequence[str]) -> Answer:
    return Answer(204, [(b"allow", ", ".join(methods).encode())], b"")


def _of_page(http_method: str) -> Answer:
    """What is answered to a method that a page does not take. Raises Refusal."""
    allowed = ["GET", "HEAD", "OPTIONS"]
    if http_method != "OPTIONS":
        raise method_unknown(http_method, allowed)
    return _allowed(allowed)
