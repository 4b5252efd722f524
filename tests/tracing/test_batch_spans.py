"""Spans of the queue and of statements; links between a batch and its calls."""

import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.address import Address
from service.call_record import CONNECTION, STATEMENT, BatchRecord, CallRecord, current_batch, current_call
from service.db.url import parse_database_url
from service.tasks.coalescer import Coalescer
from service.tracing.spans import CallTracer, TracedCall
from tests.running import Api, settings_for
from tests.tracing.traced import Trace, attributes_of, context_of, traced_service

GET = "/taskwell.v1.TaskService/GetTask"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def tracer_of(exporter: InMemorySpanExporter, sampler: sampling.Sampler, *, honours_parents: bool) -> CallTracer:
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return CallTracer(
        provider,
        "1",
        methods=[GET],
        untraced=(),
        address=Address("127.0.0.1", 1),
        database={"db.system.name": "sqlite"},
        honours_parents=honours_parents,
    )


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> CallTracer:
    return tracer_of(exporter, sampling.DEFAULT_ON, honours_parents=True)


def call_of(tracer: CallTracer, trace: Trace | None) -> CallRecord:
    """The record of a call that belongs to a trace, or to none."""
    details: Any = SimpleNamespace(method=GET, invocation_metadata=[trace.header] if trace else [])
    return tracer.begin("1", "grpc", time.perf_counter(), details)


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


@pytest.mark.parametrize(
    ("sampler", "honours_parents", "flags", "is_sampled"),
    [
        (sampling.DEFAULT_ON, True, "01", True),
        (sampling.DEFAULT_ON, True, "00", False),
        (sampling.DEFAULT_ON, True, None, True),
        (sampling.DEFAULT_OFF, True, "01", True),
        (sampling.DEFAULT_OFF, True, None, False),
        (sampling.ALWAYS_ON, False, "00", True),
        (sampling.ALWAYS_OFF, False, "01", False),
        # Not even asked.
        (sampling.ALWAYS_ON, True, "00", False),
    ],
)
def test_the_sampler_decides_unless_it_would_only_agree_with_the_caller(
    exporter: InMemorySpanExporter,
    sampler: sampling.Sampler,
    honours_parents: bool,
    flags: str | None,
    is_sampled: bool,
) -> None:
    tracer = tracer_of(exporter, sampler, honours_parents=honours_parents)
    call = call_of(tracer, Trace(flags=flags) if flags else None)
    assert type(call) is (TracedCall if is_sampled else CallRecord)


async def statement(requests: Sequence[int]) -> Sequence[int | Exception]:
    """Run a batch as the database does."""
    batch = current_batch.get()
    assert batch
    batch.enter(CONNECTION, time.perf_counter())
    batch.enter(None, time.perf_counter())
    batch.enter(STATEMENT, time.perf_counter())
    batch.enter(None, time.perf_counter())
    return requests


async def run_together(calls: Sequence[CallRecord]) -> None:
    """Run calls in one batch."""
    coalescer: Coalescer[int, int] = Coalescer(statement, owner=lambda number: number, name="get")

    async def submit(number: int, call: CallRecord) -> None:
        current_call.set(call)
        await coalescer.submit(number)
        if isinstance(call, TracedCall):
            call.finish("OK")

    await asyncio.gather(*(submit(*each) for each in enumerate(calls)))


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_a_call_has_spans_of_its_queue_and_its_statement(database_url: str) -> None:
    with (
        traced_service(settings_for(database_url)) as service,
        grpc.insecure_channel(service.addresses.grpc) as channel,
    ):
        trace = Trace()
        api = Api(channel)
        api.metadata = [*api.metadata, trace.header]
        api.create()
        call = service.server_span(trace)
        queue, run = (each for each in service.spans(trace) if each.name not in {call.name, "connection"})
    assert [each.parent and each.parent.span_id for each in (queue, run)] == [context_of(call).span_id] * 2
    assert (queue.name, run.name, run.kind) == ("queue", "create tasks", SpanKind.CLIENT)
    assert [link.context.span_id for link in run.links] == [context_of(call).span_id]
    attributes = attributes_of(run)
    expected = parse_database_url(database_url).attributes
    assert expected.items() <= attributes.items()
    assert attributes.keys() - expected.keys() == {"db.collection.name", "db.operation.name", "taskwell.batch.size"}
    assert call.start_time
    assert queue.start_time
    assert run.start_time
    assert call.end_time
    assert run.end_time
    assert call.start_time <= queue.start_time <= run.start_time <= run.end_time <= call.end_time


async def test_a_batch_has_one_statement_span_that_links_its_sampled_calls(
    tracer: CallTracer, exporter: InMemorySpanExporter
) -> None:
    sampled = [Trace() for _ in range(3)]
    calls = [call_of(tracer, trace) for trace in (Trace(flags="00"), *sampled, Trace(flags="00"))]
    await run_together(calls)
    [run] = named(exporter, "get tasks")
    servers = named(exporter, GET[1:])
    assert [f"{link.context.trace_id:032x}" for link in run.links] == [trace.trace_id for trace in sampled]
    assert {link.context.span_id for link in run.links} == {context_of(each).span_id for each in servers}
    assert run.parent
    assert run.parent.span_id == run.links[0].context.span_id
    assert attributes_of(run)["taskwell.batch.size"] == 5
    # The first call has the span as its child, the others have a link to it.
    [first, *others] = sorted(servers, key=lambda each: each.start_time or 0)
    assert not first.links
    assert [link.context.span_id for each in others for link in each.links] == [context_of(run).span_id] * 2
    assert len(named(exporter, "queue")) == 3


async def test_a_batch_without_sampled_calls_has_no_span(tracer: CallTracer, exporter: InMemorySpanExporter) -> None:
    calls = [call_of(tracer, Trace(flags="00")) for _ in range(3)]
    assert {type(call) for call in calls} == {CallRecord}
    await run_together(calls)
    assert not exporter.get_finished_spans()


def followed(tracer: CallTracer) -> BatchRecord:
    """A batch of one sampled call."""
    batch = BatchRecord(0.0, "get")
    call_of(tracer, Trace()).leave_queue(0.0, batch)
    return batch


def fail(batch: BatchRecord, phase: str, error: Exception) -> None:
    """Fail in a phase of a batch."""
    try:
        batch.enter(phase, 1.0)
        raise error
    finally:
        batch.enter(None, 2.0)


def test_a_statement_that_fails_has_the_code_of_the_database(
    tracer: CallTracer, exporter: InMemorySpanExporter
) -> None:
    class Deadlock(Exception):
        sqlstate = "40P01"

    batch = followed(tracer)
    failure = RuntimeError()
    failure.__cause__ = Deadlock()
    with pytest.raises(RuntimeError):
        fail(batch, STATEMENT, failure)
    batch.enter(STATEMENT, 3.0)
    batch.enter(None, 4.0)
    failed, again = named(exporter, "get tasks")
    assert (failed.status.status_code, again.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert attributes_of(failed)["error.type"] == attributes_of(failed)["db.response.status_code"] == "40P01"


def test_only_a_wait_for_a_connection_that_is_long_or_fails_has_a_span(
    tracer: CallTracer, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = followed(tracer)
    for nanoseconds in (10, 20_000_000):
        monkeypatch.setattr("service.tracing.batches.time.time_ns", iter((1, 1 + nanoseconds)).__next__)
        batch.enter(CONNECTION, 1.0)
        batch.enter(None, 2.0)
        monkeypatch.undo()
    with pytest.raises(TimeoutError):
        fail(batch, CONNECTION, TimeoutError())
    long, failed = named(exporter, "connection")
    assert (long.end_time or 0) - (long.start_time or 0) == 20_000_000
    assert (long.status.status_code, failed.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)


def test_a_call_that_ends_while_it_waits_has_a_span_of_its_queue(
    tracer: CallTracer, exporter: InMemorySpanExporter
) -> None:
    call = call_of(tracer, Trace())
    assert isinstance(call, TracedCall)
    call.enter_queue(1.0)
    call.finish("DEADLINE_EXCEEDED")
    assert [span.name for span in exporter.get_finished_spans()] == ["queue", GET[1:]]


def test_a_statement_does_not_touch_the_span_of_a_call_that_has_ended(
    tracer: CallTracer, caplog: pytest.LogCaptureFixture
) -> None:
    batch = BatchRecord(0.0, "get")
    calls = [call_of(tracer, Trace()) for _ in range(2)]
    for call in calls:
        call.leave_queue(1.0, batch)
        assert isinstance(call, TracedCall)
        call.finish("DEADLINE_EXCEEDED")
    batch.enter(STATEMENT, 2.0)
    batch.enter(None, 3.0)
    assert not [each for each in caplog.records if each.name == "opentelemetry.sdk.trace"]


def test_the_attributes_of_a_database_have_no_password() -> None:
    url = parse_database_url("postgresql://tasks:secret@db.example:6432/tasks?sslmode=require")
    assert url.attributes == {
        "db.system.name": "postgresql",
        "db.namespace": "tasks",
        "server.address": "db.example",
        "server.port": 6432,
    }
    several = parse_database_url("host=a,b port=1,2 dbname=tasks")
    assert several.attributes == {"db.system.name": "postgresql", "db.namespace": "tasks"}
