"""A service whose spans are kept in memory, and calls that belong to a trace of their own."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from service.config.settings import Settings
from service.tracing import sdk
from tests.running import Addresses, running_addresses
from tests.waiting import until


@dataclass
class Trace:
    """A trace that a client has begun."""

    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    span_id: str = field(default_factory=lambda: secrets.token_hex(8))
    flags: str = "01"

    @property
    def header(self) -> tuple[str, str]:
        return "traceparent", f"00-{self.trace_id}-{self.span_id}-{self.flags}"


@dataclass
class TracedService:
    """Addresses of a service, and the spans that it has ended."""

    addresses: Addresses
    exporter: InMemorySpanExporter

    def spans(self, trace: Trace, kind: SpanKind | None = None) -> list[ReadableSpan]:
        """The ended spans of a trace, of one kind or of all, in the order of their start."""
        wanted = int(trace.trace_id, 16)
        found = [each for each in self.exporter.get_finished_spans() if context_of(each).trace_id == wanted]
        return sorted((each for each in found if kind in {None, each.kind}), key=lambda each: each.start_time or 0)

    def server_span(self, trace: Trace) -> ReadableSpan:
        """The only server span of a trace, once it has ended."""
        until(lambda: bool(self.spans(trace, SpanKind.SERVER)))
        [span] = self.spans(trace, SpanKind.SERVER)
        return span


def context_of(span: ReadableSpan) -> Any:
    """The ids of a span."""
    assert span.context
    return span.context


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@contextmanager
def traced_service(
    settings: Settings,
    sampler: sampling.Sampler = sampling.DEFAULT_ON,
    environ: Mapping[str, str] = MappingProxyType({"OTEL_TRACES_EXPORTER": "memory"}),
) -> Iterator[TracedService]:
    """Run a service that keeps its spans in memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with ExitStack() as running:
        with patch.dict("os.environ", environ), patch.object(sdk, "start", lambda _: provider):
            addresses = running.enter_context(running_addresses(settings))
        yield TracedService(addresses, exporter)


def code_of(call: Any) -> grpc.StatusCode:
    """The status code of a call, once it has ended."""
    code: grpc.StatusCode = call.code()
    return code
