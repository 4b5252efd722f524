"""The Python client continues the trace of the program that calls it."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanKind, Tracer, format_trace_id, use_span
from taskwell_client import connect, connect_async

from tests.running import new_user
from tests.server.starting import TIMEOUT
from tests.tracing.traced import Trace, TracedService
from tests.waiting import until


@pytest.fixture(scope="module")
def tracer() -> Iterator[Tracer]:
    """A tracer of a program that calls the service."""
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider.get_tracer("program")
    provider.shutdown()


def test_calls_of_the_sync_client_belong_to_the_current_span(traced: TracedService, tracer: Tracer) -> None:
    span = tracer.start_span("program")
    with connect(traced.addresses.grpc, user=new_user()) as client, use_span(span):
        client.create("Buy milk")
        client.create_many(["One", "Two"])
    ids = span.get_span_context()
    trace = Trace(format_trace_id(ids.trace_id))
    until(lambda: len(traced.spans(trace, SpanKind.SERVER)) == 3)
    assert {each.parent and each.parent.span_id for each in traced.spans(trace, SpanKind.SERVER)} == {ids.span_id}


async def test_calls_of_the_asyncio_client_belong_to_the_span_of_their_task(
    traced: TracedService, tracer: Tracer
) -> None:
    span = tracer.start_span("program")
    async with connect_async(traced.addresses.grpc, user=new_user()) as client:
        with use_span(span):
            await client.create_many(["One", "Two"])
    ids = span.get_span_context()
    trace = Trace(format_trace_id(ids.trace_id))
    until(lambda: len(traced.spans(trace, SpanKind.SERVER)) == 2)
    assert {each.parent and each.parent.span_id for each in traced.spans(trace, SpanKind.SERVER)} == {ids.span_id}


def test_a_call_without_a_current_span_begins_a_trace(traced: TracedService) -> None:
    before = len(traced.exporter.get_finished_spans())
    with connect(traced.addresses.grpc, user=new_user()) as client:
        client.create("Buy milk")

    def roots() -> list[ReadableSpan]:
        new = traced.exporter.get_finished_spans()[before:]
        return [each for each in new if each.kind is SpanKind.SERVER and each.parent is None]

    until(lambda: len(roots()) == 1)


def test_the_client_does_not_import_opentelemetry(traced: TracedService) -> None:
    program = """
import sys
from taskwell_client import connect

with connect(sys.argv[1], user=sys.argv[2]) as client:
    client.create("Buy milk")
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    command = [sys.executable, "-c", program, traced.addresses.grpc, new_user()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert ran.stdout == "[]\n"
