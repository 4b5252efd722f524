"""Spans of calls, in the records of these (service/call_record.py). Imports the API of OpenTelemetry, not its SDK.

A call that is not sampled has an ordinary record, and costs the sampling decision. Names and attributes are those of
the stable semantic conventions for RPC spans (https://opentelemetry.io/docs/specs/semconv/rpc/, version 1.45.0). No
span has a user, or anything else that a caller sends, but for the name of an unknown method.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias
from urllib.parse import unquote

from grpc import HandlerCallDetails
from opentelemetry.context import Context
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    TracerProvider,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.address import Address
from service.call_record import BatchRecord, CallRecord, current_call
from service.tracing.batches import BatchSpans

SCHEMA = "https://opentelemetry.io/schemas/1.45.0"

# Codes that are the server's fault (semantic conventions for gRPC); with others a server span has no error.
_SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})

_MAX_UNKNOWN_METHOD = 128
"""Most characters of the name of an unknown method."""

_ROOT = Context()
_PROPAGATOR = TraceContextTextMapPropagator()
_HEADERS = frozenset({"traceparent", "tracestate"})
# A valid `traceparent` of a trace that is not sampled (https://www.w3.org/TR/trace-context/#traceparent-header).
_UNSAMPLED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")

Attributes: TypeAlias = Mapping[str, str | int]
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

http_span: ContextVar[Span | None] = ContextVar("http_span", default=None)
"""The span of the REST request that this asyncio task serves; None if it is not sampled."""


class TracedCall(CallRecord):
    """A call that is sampled."""

    __slots__ = ("_waiting", "context", "span", "tracer")

    def __init__(
        self, request_id: str, api: str, started: float, details: HandlerCallDetails, span: Span, tracer: CallTracer
    ) -> None:
        super().__init__(request_id, api, started, details)
        self.span = span
        self.tracer = tracer
        self.context = set_span_in_context(span, _ROOT)
        """The parent of further spans of the call."""
        self._waiting: Span | None = None

    @property
    def trace_id(self) -> str:
        return format_trace_id(self.span.get_span_context().trace_id)

    def enter_queue(self, now: float) -> None:
        super().enter_queue(now)
        self._end_wait()
        self._waiting = self.tracer.child("queue", self.context)

    def leave_queue(self, now: float, batch: BatchRecord | None = None) -> None:
        super().leave_queue(now, batch)
        self._end_wait()
        if batch:
            self.tracer.follow(batch).add(self.span, self.context)

    def finish(self, code: str) -> None:
        """Record the status code, and end the span of a gRPC call. That of a REST request ends with its response."""
        self._end_wait()
        self.span.set_attribute("rpc.response.status_code", code)
        if self.api == "rest":
            return
        if code in _SERVER_FAULTS:
            self.span.set_attribute("error.type", code)
            self.span.set_status(StatusCode.ERROR)
        self.span.end()

    def _end_wait(self) -> None:
        if self._waiting:
            self._waiting.end()
            self._waiting = None


class CallTracer:
    """Starts and ends the spans of calls.

    `methods` are the full names (`/service/Method`) of the methods that are traced, `untraced` those that are not, such
    as health checks; a call of another method is traced as one of an unknown method. With `honours_parents`, calls of a
    trace that is not sampled are not offered to the sampler, which would only agree. `draw` is called for each new
    trace, and returns False if the sampler would not take it.
    """

    def __init__(
        self,
        provider: TracerProvider,
        version: str,
        *,
        methods: Collection[str],
        untraced: Collection[str],
        address: Address,
        database: Attributes,
        honours_parents: bool,
        draw: Callable[[], bool] = lambda: True,
    ) -> None:
        self._tracer = provider.get_tracer("taskwell", version, SCHEMA)
        self._server = {"rpc.system.name": "grpc", **server_attributes(address)}
        names = {method: method.removeprefix("/") for method in methods}
        self._known = {method: (name, {**self._server, "rpc.method": name}) for method, name in names.items()}
        self._untraced = frozenset(untraced)
        self._database = {**database, "db.collection.name": "tasks"}
        self._honours_parents = honours_parents
        self._draw = draw

    def begin(self, request_id: str, api: str, started: float, details: HandlerCallDetails) -> CallRecord:
        """Make the record of a call, with a span if the call is sampled."""
        span = None
        if api == "rest":
            if span := http_span.get():
                span.set_attribute("rpc.method", self._described(details.method)[1]["rpc.method"])
        else:
            parent = self._parent(details.invocation_metadata or ())
            if parent is not None and details.method not in self._untraced:
                span = self._start(parent, *self._described(details.method))
        if span is None:
            return CallRecord(request_id, api, started, details)
        return TracedCall(request_id, api, started, details, span, self)

    def start(self, name: str, metadata: Metadata, attributes: Attributes) -> Span | None:
        """Start a server span, as a child of the span that the metadata name. None if it is not sampled."""
        parent = self._parent(metadata)
        return None if parent is None else self._start(parent, name, attributes)

    def _start(self, parent: Context, name: str, attributes: Attributes) -> Span | None:
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        return span if span.is_recording() else None

    def child(self, name: str, parent: Context) -> Span:
        """Start a span within a call."""
        return self._tracer.start_span(name, parent)

    def follow(self, batch: BatchRecord) -> BatchSpans:
        """Return what makes the spans of a batch."""
        if batch.spans is None:
            batch.spans = BatchSpans(self._tracer, batch, self._database)
        spans: BatchSpans = batch.spans
        return spans

    def on_context(self, context: Any) -> None:  # noqa: ANN401 - either context
        """Add the client's address to the span of the current call."""
        record = current_call.get()
        if isinstance(record, TracedCall) and record.api == "grpc":
            record.span.set_attributes(peer_attributes(context.peer()))

    def ending(self, on_call: Callable[..., None]) -> Callable[..., None]:
        """Return a function that does the same, and ends the span of the current call."""

        def on_call_and_end(method: str, code: str, seconds: float) -> None:
            on_call(method, code, seconds)
            record = current_call.get()
            if isinstance(record, TracedCall):
                record.finish(code)

        return on_call_and_end

    def _parent(self, metadata: Metadata) -> Context | None:
        """Return the context of the caller's span, the root without one; None if the trace is not sampled.

        Most calls end here, so it has to be quick.
        """
        for name, _ in metadata:
            if name in _HEADERS:
                return self._remote_parent(metadata)
        return _ROOT if self._draw() else None

    def _remote_parent(self, metadata: Metadata) -> Context | None:
        parents = [value for name, value in metadata if name == "traceparent" and isinstance(value, str)]
        if len(parents) != 1:
            return _ROOT
        if self._honours_parents and _UNSAMPLED.fullmatch(parents[0]):
            return None
        states = [value for name, value in metadata if name == "tracestate" and isinstance(value, str)]
        return _PROPAGATOR.extract({"traceparent": parents, "tracestate": states}, _ROOT)

    def _described(self, method: str) -> tuple[str, Attributes]:
        """Return name and attributes of the span of a call."""
        if known := self._known.get(method):
            return known
        original = method.removeprefix("/")[:_MAX_UNKNOWN_METHOD]
        return "grpc", {**self._server, "rpc.method": "_OTHER", "rpc.method_original": original}


def server_attributes(address: Address) -> dict[str, str | int]:
    """Return the attributes for the address of a server, with the name of the machine for all addresses."""
    host = socket.gethostname() if address.host in {"0.0.0.0", "::"} else address.host  # noqa: S104 - compared
    return {"server.address": host, **({"server.port": address.port} if address.port else {})}


def peer_attributes(peer: str) -> dict[str, str | int]:
    """Return the attributes for a peer as gRPC writes it: `ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`."""
    kind, _, rest = peer.partition(":")
    host, _, port = unquote(rest).rpartition(":")
    if kind not in {"ipv4", "ipv6"} or not port.isdigit():
        return {"network.transport": "unix"} if kind == "unix" else {}
    return {"network.transport": "tcp", "network.peer.address": host.strip("[]"), "network.peer.port": int(port)}
