"""Collectors: one that receives spans by OTLP over gRPC, and one that accepts connections and says nothing."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span


@dataclass
class Received(trace_service_pb2_grpc.TraceServiceServicer):
    """What the collector has received."""

    address: str = ""
    resource_spans: list[ResourceSpans] = field(default_factory=list)

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802 - the contract's
        self.resource_spans.extend(request.resource_spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        return [span for each in self.resource_spans for scope in each.scope_spans for span in scope.spans]

    @property
    def resources(self) -> list[dict[str, str]]:
        """The text attributes of each resource."""
        return [
            {attribute.key: attribute.value.string_value for attribute in each.resource.attributes}
            for each in self.resource_spans
        ]


@contextmanager
def collector() -> Iterator[Received]:
    """Run a collector on a free port."""
    received = Received()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(received, server)  # type: ignore[no-untyped-call]
    received.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield received
    finally:
        server.stop(None).wait()


@contextmanager
def silent_collector() -> Iterator[str]:
    """Accept connections (the kernel does) and never answer. Yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
