"""The Python client on grpcio-testing's channel, where a test plays the service and holds the clock.

That channel has neither retries nor deadlines, which are the core's: what is sent again is tested with a real server in
test_retries.py, and here the script ends a call when the time that the client gave it is over by the clock.
"""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from taskwell.v1 import tasks_pb2
from taskwell_client import (
    INCOMPLETE,
    Client,
    DeadlineExceeded,
    InvalidArgument,
    ListTasksResponse,
    NotFound,
    ResourceExhausted,
    Task,
    TaskwellError,
    Unavailable,
    Violation,
)
from taskwell_client.caller import named
from taskwell_client.channels import Channels, InTurn
from taskwell_client.connection import Connection
from taskwell_client.errors import error_of

SERVICE = tasks_pb2.DESCRIPTOR.services_by_name["TaskService"]
OK = StatusCode.OK
PATIENCE = 30  # s; long, so that it only ends what would never come


class Recording:
    """Wraps a channel and records the timeouts of the calls."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.timeouts: list[float] = []

    def unary_unary(self, *method: Any, **options: Any) -> Callable[..., Any]:
        multicallable = self._channel.unary_unary(*method, **options)

        def call(request: Any, *, timeout: float, metadata: Any) -> Any:
            self.timeouts.append(timeout)
            return multicallable(request, timeout=timeout, metadata=metadata)

        return call


class Script:
    """The service's side of the test channel, and its clock."""

    def __init__(self) -> None:
        self.clock = grpc_testing.strict_fake_time(0)
        self.channel = grpc_testing.channel([SERVICE], self.clock)
        self.recording = Recording(self.channel)
        in_turn = InTurn([self.recording])
        channels = Channels(in_turn, in_turn)
        connection = Connection("scripted", lambda: channels, lambda: None, is_private=True)
        self.client = Client(connection, named("alice"), timeout=10, insecure=False)

    def take(self, method: str) -> tuple[Any, Any, Any]:
        """Take the next call: its metadata, its request, and an object that answers it."""
        metadata, request, rpc = self.channel.take_unary_unary(SERVICE.methods_by_name[method])
        return metadata, copy.deepcopy(request), rpc  # this channel sends no bytes but the message itself

    def answer(self, method: str, response: Message) -> Any:
        """Answer the next call with a response. Returns its request."""
        _, request, rpc = self.take(method)
        rpc.terminate(response, (), OK, "")
        return request

    def refuse(self, method: str, code: StatusCode, message: str = "No.", *details: Message) -> Any:
        """Answer the next call with an error. Returns its request."""
        _, request, rpc = self.take(method)
        rpc.terminate(None, trailers(code, message, *details), code, message)
        return request

    def expire(self, method: str) -> None:
        """End a call when the clock has passed its timeout."""
        _, _, rpc = self.take(method)
        self.clock.call_in(
            lambda: rpc.terminate(None, (), StatusCode.DEADLINE_EXCEEDED, ""), self.recording.timeouts[-1]
        )


def trailers(code: StatusCode, message: str, *details: Message) -> Any:
    packed = [AnyMessage() for _ in details]
    for each, detail in zip(packed, details, strict=True):
        each.Pack(detail)
    status = status_pb2.Status(code=code.value[0], message=message, details=packed)
    return (("grpc-status-details-bin", status.SerializeToString()),)


@pytest.fixture
def script() -> Script:
    return Script()


class Calling:
    """Calls the client in other threads, because the test's own thread plays the service."""

    def __call__(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        call: Future[Any] = Future()

        def run() -> None:
            try:
                call.set_result(method(*arguments, **options))
            except BaseException as error:  # noqa: BLE001 - the test asks for it
                call.set_exception(error)

        # One that never ends, since this channel has no deadlines, must not keep the tests from ending.
        threading.Thread(target=run, daemon=True).start()
        return call


@pytest.fixture
def calling() -> Calling:
    return Calling()


def test_a_call_says_who_calls_and_what(script: Script, calling: Calling) -> None:
    call = calling(script.client.update, "1", title="Buy milk", description="", etag="7")
    metadata, request, rpc = script.take("UpdateTask")
    rpc.terminate(Task(id="1"), (), OK, "")
    assert Task(id="1") == call.result(PATIENCE)
    assert ("x-user-id", "alice") in metadata
    assert Task(id="1", title="Buy milk", etag="7") == request.task
    assert request.update_mask.paths == ["title", "description"]


def test_unavailable_twice_is_two_errors_where_nothing_is_sent_again(script: Script, calling: Calling) -> None:
    delay = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    for _ in range(2):
        call = calling(script.client.get, "1")
        script.refuse("GetTask", StatusCode.UNAVAILABLE, "The database is away.", delay)
        error = call.exception(PATIENCE)
        assert isinstance(error, Unavailable)
        assert (str(error), error.retry_delay) == ("The database is away.", 1.5)
    call = calling(script.client.get, "1")
    script.answer("GetTask", Task(id="1"))
    assert Task(id="1") == call.result(PATIENCE)


@pytest.mark.parametrize("timeout", [None, 3])
def test_a_call_ends_when_its_time_is_over(script: Script, calling: Calling, timeout: float | None) -> None:
    call = calling(script.client.get, "1", timeout=timeout)
    script.expire("GetTask")
    script.clock.sleep_for((timeout or 10) - 1)
    assert not call.done()
    script.clock.sleep_for(1)
    assert isinstance(call.exception(PATIENCE), DeadlineExceeded)


def test_each_page_of_a_walk_has_its_own_time(script: Script, calling: Calling) -> None:
    walk = calling(list, script.client.list(timeout=3))
    for _ in range(3):
        script.answer("ListTasks", ListTasksResponse(next_page_token="more"))
        script.clock.sleep_for(2)
    script.answer("ListTasks", ListTasksResponse())
    assert walk.result(PATIENCE) == []
    assert script.recording.timeouts == [3, 3, 3, 3]


def test_a_walk_asks_for_a_page_when_the_one_before_is_used_up(script: Script, calling: Calling) -> None:
    walk = script.client.list(status=INCOMPLETE, page_size=2)
    assert script.recording.timeouts == []
    call = calling(next, walk)
    pair = [Task(id="1"), Task(id="2")]
    first = script.answer("ListTasks", ListTasksResponse(tasks=pair, next_page_token="after 2"))
    assert pair == [call.result(PATIENCE), next(walk)]
    assert len(script.recording.timeouts) == 1

    rest = calling(list, walk)
    second = script.answer("ListTasks", ListTasksResponse(next_page_token="still after 2"))  # empty, and not the last
    third = script.answer("ListTasks", ListTasksResponse(tasks=[Task(id="3")]))
    assert [Task(id="3")] == rest.result(PATIENCE)
    assert [(INCOMPLETE, 2, token) for token in ("", "after 2", "still after 2")] == [
        (request.status, request.page_size, request.page_token) for request in (first, second, third)
    ]


def test_a_walk_whose_token_expires_says_so_and_does_not_look_finished(script: Script, calling: Calling) -> None:
    lifetime, good = 3600, {"first"}
    script.clock.call_in(good.clear, lifetime)
    walk = script.client.list()
    call = calling(next, walk)
    script.answer("ListTasks", ListTasksResponse(tasks=[Task(id="1")], next_page_token="first"))
    assert call.result(PATIENCE).id == "1"

    script.clock.sleep_for(lifetime)
    call = calling(next, walk)
    assert not good
    wrong = error_details_pb2.BadRequest.FieldViolation(field="page_token", description="has expired")
    details = (
        error_details_pb2.ErrorInfo(reason="INVALID_FIELD", domain="taskwell.v1"),
        error_details_pb2.BadRequest(field_violations=[wrong]),
    )
    request = script.refuse("ListTasks", StatusCode.INVALID_ARGUMENT, "page_token has expired.", *details)
    assert request.page_token == "first"
    error = call.exception(PATIENCE)
    assert isinstance(error, InvalidArgument)
    assert (Violation("page_token", "has expired"),) == error.violations


def test_every_code_has_a_class_or_is_at_least_a_taskwell_error(script: Script, calling: Calling) -> None:
    classes = {}
    for code in set(StatusCode) - {OK}:
        call = calling(script.client.get, "1")
        script.refuse("GetTask", code)
        error = call.exception(PATIENCE)
        assert isinstance(error, TaskwellError)
        assert (code, "No.", "") == (error.code, error.message, error.reason)
        assert isinstance(error.__cause__, grpc.RpcError)
        classes[code] = type(error)
    assert classes[StatusCode.NOT_FOUND] is NotFound
    unnamed = {code for code, kind in classes.items() if kind is TaskwellError}
    assert unnamed == {
        *(StatusCode.UNKNOWN, StatusCode.CANCELLED, StatusCode.DATA_LOSS),
        *(StatusCode.FAILED_PRECONDITION, StatusCode.OUT_OF_RANGE),
    }
    assert len(set(classes.values()) - {TaskwellError}) == len(classes) - len(unnamed)


class Failed(grpc.RpcError):
    """Error details may come from a proxy or from another service."""

    def __init__(self, trailers: Any) -> None:
        self._trailers = trailers

    def code(self) -> StatusCode:
        return StatusCode.RESOURCE_EXHAUSTED

    def details(self) -> str | None:
        return None

    def trailing_metadata(self) -> Any:
        return self._trailers


@pytest.mark.parametrize(
    "given",
    [
        None,
        (),
        (("other", "x"),),
        (("grpc-status-details-bin", b"\xff"),),
        trailers(OK, "", error_details_pb2.ErrorInfo(reason="QUOTA", domain="proxy.example")),
        trailers(OK, "", error_details_pb2.Help()),
    ],
)
def test_details_that_are_not_the_services_are_left_alone(given: Any) -> None:
    error = error_of(Failed(given))
    assert isinstance(error, ResourceExhausted)
    assert (str(error), error.reason, error.violations, error.retry_delay) == ("RESOURCE_EXHAUSTED", "", (), None)
