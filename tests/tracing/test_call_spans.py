"""The server span of a gRPC call, as the semantic conventions for RPC have it."""

import asyncio
import threading
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs
from taskwell.v1 import tasks_pb2

from tests.running import DEADLINE, Api
from tests.tracing.traced import Trace, TracedService, attributes_of, code_of, context_of

SERVICE = "taskwell.v1.TaskService"


def traced_api(channel: grpc.Channel, trace: Trace, *more: tuple[str, str]) -> Api:
    """A client of a new user whose calls belong to a trace."""
    api = Api(channel)
    api.metadata = [*api.metadata, trace.header, *more]
    return api


def test_a_call_is_a_span_of_the_trace_of_its_caller(traced: TracedService, traced_channel: grpc.Channel) -> None:
    trace = Trace()
    traced_api(traced_channel, trace, ("tracestate", "vendor=1,other=2")).create()
    span = traced.server_span(trace)
    assert (span.name, span.kind) == (f"{SERVICE}/CreateTask", SpanKind.SERVER)
    assert span.parent is not None
    assert (f"{span.parent.span_id:016x}", span.parent.is_remote) == (trace.span_id, True)
    assert context_of(span).trace_state.to_header() == "vendor=1,other=2"
    assert span.status.status_code is StatusCode.UNSET
    attributes = attributes_of(span)
    assert isinstance(attributes.pop("network.peer.port"), int)
    assert attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/CreateTask",
        "rpc.response.status_code": "OK",
        "server.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "network.transport": "tcp",
    }


def test_an_error_of_the_caller_is_no_error_of_the_span(traced: TracedService, traced_channel: grpc.Channel) -> None:
    trace = Trace()
    api = traced_api(traced_channel, trace)
    call = api.start("GetTask", tasks_pb2.GetTaskRequest(id="01a1fd9a-2d17-73ac-9e00-4a78b57254ae"))
    assert code_of(call) is grpc.StatusCode.NOT_FOUND
    span = traced.server_span(trace)
    assert attributes_of(span)["rpc.response.status_code"] == "NOT_FOUND"
    assert "error.type" not in attributes_of(span)
    assert span.status.status_code is StatusCode.UNSET


def test_an_error_of_the_service_is_one_of_the_span(
    traced: TracedService, traced_channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("details that belong into the log")

    monkeypatch.setattr("service.tasks.methods.Tasks.get", fails)
    trace = Trace()
    with capture_logs() as lines:
        call = traced_api(traced_channel, trace).start("GetTask", tasks_pb2.GetTaskRequest(id="1"))
        assert code_of(call) is grpc.StatusCode.INTERNAL
    assert trace.trace_id in {line.get("trace_id") for line in lines}
    span = traced.server_span(trace)
    assert attributes_of(span)["rpc.response.status_code"] == "INTERNAL"
    assert attributes_of(span)["error.type"] == "INTERNAL"
    assert span.status.status_code is StatusCode.ERROR
    assert "details" not in span.to_json()


def test_a_call_that_is_refused_before_it_runs_has_a_span(traced: TracedService, traced_channel: grpc.Channel) -> None:
    trace = Trace()
    api = traced_api(traced_channel, trace)
    api.metadata = [trace.header]
    assert code_of(api.start("GetTask", tasks_pb2.GetTaskRequest(id="1"))) is grpc.StatusCode.UNAUTHENTICATED
    attributes = attributes_of(traced.server_span(trace))
    assert attributes["rpc.response.status_code"] == "UNAUTHENTICATED"
    assert attributes["network.peer.address"] == "127.0.0.1"


def test_the_name_of_an_unknown_method_is_an_attribute_alone(
    traced: TracedService, traced_channel: grpc.Channel
) -> None:
    trace = Trace()
    method = f"/{SERVICE}/{'x' * 200}"
    unknown: Any = traced_channel.unary_unary(method)
    call = unknown.future(b"", metadata=[trace.header], timeout=DEADLINE)
    assert code_of(call) is grpc.StatusCode.UNIMPLEMENTED
    span = traced.server_span(trace)
    assert span.name == "grpc"
    assert attributes_of(span)["rpc.method"] == "_OTHER"
    assert attributes_of(span)["rpc.method_original"] == method[1:129]
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("seconds", [None, 0.5], ids=["cancelled", "deadline passed"])
def test_a_call_that_the_client_gives_up_has_its_code(
    traced: TracedService, traced_channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch, seconds: float | None
) -> None:
    begun = threading.Event()

    async def lasts(*_: object) -> None:
        begun.set()
        await asyncio.sleep(DEADLINE)

    monkeypatch.setattr("service.tasks.methods.Tasks.get", lasts)
    trace = Trace()
    api = traced_api(traced_channel, trace)
    get: Any = api.stub.GetTask
    call = get.future(tasks_pb2.GetTaskRequest(id="1"), metadata=api.metadata, timeout=seconds)
    assert begun.wait(DEADLINE)
    if seconds is None:
        call.cancel()
    span = traced.server_span(trace)
    expected = "CANCELLED" if seconds is None else "DEADLINE_EXCEEDED"
    assert attributes_of(span)["rpc.response.status_code"] == expected
    assert span.status.status_code is (StatusCode.UNSET if seconds is None else StatusCode.ERROR)


def test_health_checks_have_no_span(traced: TracedService, traced_channel: grpc.Channel) -> None:
    trace = Trace()
    stub: Any = health_pb2_grpc.HealthStub(traced_channel)
    stub.Check(health_pb2.HealthCheckRequest(), metadata=[trace.header], timeout=DEADLINE)
    traced_api(traced_channel, trace).create()
    assert traced.server_span(trace).name == f"{SERVICE}/CreateTask"


def test_no_span_has_a_user_a_title_or_an_id(traced: TracedService, traced_channel: grpc.Channel) -> None:
    trace = Trace()
    api = traced_api(traced_channel, trace)
    task = api.create("A secret title", "A secret description")
    api.get(task.id)
    api.list()
    for span in traced.exporter.get_finished_spans():
        text = span.to_json()
        assert not any(each in text for each in (api.user, "secret", task.id))


@pytest.mark.parametrize(
    "value",
    [
        *("", "00", "garbage", "00-0-0-01", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'0' * 16}-00"),
        *(f"ff-{'1' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'1' * 16}-01-more", f"00-{'A' * 32}-{'1' * 16}-01"),
        f"00-{'1' * 32}-{'1' * 16}-01{' ' * 600}x",
    ],
)
def test_a_malformed_traceparent_begins_a_new_trace(
    traced: TracedService, traced_channel: grpc.Channel, value: str
) -> None:
    before = len(traced.exporter.get_finished_spans())
    api = Api(traced_channel)
    api.metadata = [*api.metadata, ("traceparent", value)]
    api.create()
    new = [each for each in traced.exporter.get_finished_spans()[before:] if each.kind is SpanKind.SERVER]
    assert new[-1].parent is None
