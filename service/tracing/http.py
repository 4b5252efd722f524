"""Spans of REST requests: an ASGI application around the gateway.

A REST request has one server span, with the attributes of HTTP and the method of its call: a second one for the call
would make every request count twice. Names and attributes are those of the stable semantic conventions for HTTP
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/). Of the path the span has the template alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, TypeAlias

from opentelemetry.trace import Span, StatusCode

from service.address import Address
from service.tracing.spans import CallTracer, http_span, server_attributes

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

ROUTE = "taskwell.route"
"""Key of the template of the path in the scope of a request, once it is known."""

_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_HEADERS = frozenset({b"traceparent", b"tracestate"})
_SERVER_FAULT = 500


class TracedGateway:
    """Traces the requests of an ASGI application; those for `untraced` paths are not."""

    def __init__(self, app: App, tracer: CallTracer, address: Address, untraced: Collection[str]) -> None:
        self._app, self._tracer, self._untraced = app, tracer, frozenset(untraced)
        self._server = server_attributes(address)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = None if scope["path"] in self._untraced else self._start(scope)
        if span is None:
            await self._app(scope, receive, send)
            return

        async def send_and_note(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                _note_status(span, message["status"])
            await send(message)

        http_span.set(span)
        try:
            await self._app(scope, receive, send_and_note)
        except asyncio.CancelledError:
            _note_error(span, "cancelled")
            raise
        finally:
            if route := scope.get(ROUTE):
                span.set_attributes({"http.route": route, "url.path": route})
                span.update_name(f"{_known(scope['method'])} {route}")
            span.end()

    def _start(self, scope: Scope) -> Span | None:
        headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"] if name in _HEADERS]
        method = _known(scope["method"])
        attributes = {
            **self._server,
            "http.request.method": "_OTHER" if method == "HTTP" else method,
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
        }
        span = self._tracer.start(method, headers, attributes)
        if span and scope["client"]:
            host, port = scope["client"]
            span.set_attributes({"network.peer.address": host, "network.peer.port": port})
        return span


def _known(method: str) -> str:
    """Return the HTTP method; `HTTP` for an unknown one, which a client may choose freely."""
    return method if method in _METHODS else "HTTP"


def _note_status(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= _SERVER_FAULT:
        _note_error(span, str(status))


def _note_error(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
