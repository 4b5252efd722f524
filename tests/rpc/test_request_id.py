"""The request id: every call answers it, over gRPC in the trailing metadata."""

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from taskwell.v1 import tasks_pb2

SERVICE = "/taskwell.v1.TaskService"


def answered(channel: grpc.Channel, method: str, request: bytes, *metadata: tuple[str, str | bytes]) -> str:
    """Make a unary call and return the request id of its response or error."""
    method_call: Any = channel.unary_unary(method)
    call = method_call.future(request, metadata=metadata, timeout=30)
    [request_id] = [value for name, value in call.trailing_metadata() if name == "x-request-id"]
    return str(request_id)


@pytest.mark.parametrize(
    ("method", "request_", "metadata"),
    [
        (f"{SERVICE}/ListTasks", b"", [("x-user-id", "alice")]),
        (f"{SERVICE}/GetTask", tasks_pb2.GetTaskRequest(id="none").SerializeToString(), [("x-user-id", "alice")]),
        (f"{SERVICE}/GetTask", b"", [("x-user-id", "alice")]),
        (f"{SERVICE}/GetTask", b"\xff", [("x-user-id", "alice")]),
        (f"{SERVICE}/GetTask", b"", []),
        (f"{SERVICE}/GetTask", bytes(100_000), [("x-user-id", "alice")]),
        (f"{SERVICE}/NoSuchMethod", b"", [("x-user-id", "alice")]),
        ("/grpc.health.v1.Health/Check", b"", []),
        ("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest(service="?").SerializeToString(), []),
    ],
)
@pytest.mark.parametrize("channel", ["sqlite"], indirect=True)
def test_every_call_answers_the_request_id_of_its_caller_or_a_new_one(
    channel: grpc.Channel, method: str, request_: bytes, metadata: list[tuple[str, str]]
) -> None:
    assert answered(channel, method, request_, *metadata, ("x-request-id", "order 4711/2")) == "order 4711/2"
    made = [answered(channel, method, request_, *metadata, *bad) for bad in ([], [("x-request-id", "x" * 129)])]
    assert made[0] != made[1]
    assert all(0 < len(each) < 40 for each in made)


@pytest.mark.parametrize("channel", ["sqlite"], indirect=True)
def test_streams_answer_the_request_id(channel: grpc.Channel) -> None:
    call: Any = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    stream = call(iter([request]), metadata=[("x-request-id", "7")], timeout=30)
    assert len(list(stream)) == 1
    assert dict(stream.trailing_metadata())["x-request-id"] == "7"
