"""Requests that a generated client never sends, and responses when the service is at its limits."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from taskwell.v1 import tasks_pb2

from tests.methods import METHODS
from tests.rpc.given import Rows, raw_call
from tests.running import DEADLINE, Api, new_user, refusal_of, refused, running_service, settings_for

LIMIT = 65_536
"""The largest message that a service takes by default (bytes)."""
CREATE = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="Buy milk"))


@contextmanager
def serving(database_url: str, **limits: Any) -> Iterator[grpc.Channel]:
    """A channel to a service with limits of its own."""
    with running_service(settings_for(database_url, **limits)) as address, grpc.insecure_channel(address) as channel:
        yield channel


def padded(message: bytes, size: int) -> bytes:
    """The message with a field that nobody knows, number 1000, so that it is this long."""
    length = size - len(message) - 5
    assert 2**14 <= length < 2**21, "the length takes three bytes"
    varint = bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14])
    return message + b"\xc2\x3e" + varint + bytes(length)


# Messages


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\xff",
        b"\x0a",  # a field without its length
        b"\x0a\x05x",  # shorter than its length
        b"\x0a\xff\xff\xff\xff\x0f",  # a length of 4 GB
        b"\x80" * 11,  # a number without an end
        b"\x00\x00",  # field number 0
        b"\x0c",  # the end of a group that never began
        b"\x7b" * 1000,  # a thousand groups in each other
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_protobuf_message_is_an_invalid_argument(
    channel: grpc.Channel, method: str, request_bytes: bytes
) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED"):
        raw_call(channel, method, request_bytes, user=new_user()).result()


def in_task(field: bytes) -> bytes:
    return b"\x0a" + bytes([len(field)]) + field


@pytest.mark.parametrize(
    ("method", "request_bytes"),
    [
        ("GetTask", b"\x0a\x01\xff"),
        ("DeleteTask", b"\x12\x02\xc3\x28"),
        ("CompleteTask", b"\x0a\x03\xed\xa0\x80"),  # half of a surrogate pair
        ("ListTasks", b"\x12\x02\xc0\x80"),  # NUL as Java's "modified UTF-8" has it
        ("CreateTask", in_task(b"\x12\x04Buy\xff")),
        ("CreateTask", in_task(b"\x1a\x04\xf5\x80\x80\x80")),  # beyond the last code point
        ("UpdateTask", in_task(b"\x12\x01\xff")),
    ],
)
def test_text_that_is_not_utf_8_is_an_invalid_argument(
    channel: grpc.Channel, method: str, request_bytes: bytes
) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED"):
        raw_call(channel, method, request_bytes, user=new_user()).result()


def test_fields_that_nobody_knows_are_ignored(channel: grpc.Channel) -> None:
    user = new_user()
    request = in_task(b"\x12\x08Buy milk" + b"\xca\x3e\x01x") + b"\xc0\x3e\x01"
    task = tasks_pb2.Task.FromString(raw_call(channel, "CreateTask", request, user=user).result())
    assert task == Api(channel, user).get(task.id)
    assert task.title == "Buy milk"


def test_a_message_may_be_as_long_as_the_limit(channel: grpc.Channel) -> None:
    request = padded(CREATE.SerializeToString(), LIMIT)
    assert len(request) == LIMIT
    raw_call(channel, "CreateTask", request, user=new_user()).result()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
@pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT, 4 * LIMIT])
@pytest.mark.parametrize("method", METHODS)
def test_a_longer_message_is_refused_with_both_sizes(
    channel: grpc.Channel, method: str, size: int, compression: grpc.Compression
) -> None:
    call = raw_call(channel, method, padded(b"", size), user=new_user(), compression=compression)
    with refused(StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE") as refusal:
        call.result()
    assert str(size) in refusal.message
    assert str(LIMIT) in refusal.message


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
@pytest.mark.parametrize("size", [4 * LIMIT + 1, 2**24])
def test_a_message_far_over_the_limit_is_not_even_read(
    channel: grpc.Channel, size: int, compression: grpc.Compression
) -> None:
    api = Api(channel)
    request = CREATE.SerializeToString() + b"\xc2\x3e" + bytes(0)  # cut off, if anybody were to decode it
    call = raw_call(channel, "CreateTask", request + bytes(size), user=api.user, compression=compression)
    assert call.code() is StatusCode.RESOURCE_EXHAUSTED
    assert not api.list().tasks


def test_metadata_over_the_limit_is_refused_and_nothing_done(channel: grpc.Channel) -> None:
    api = Api(channel)
    request = CREATE.SerializeToString()
    many = [(f"x-more-{number}", "x" * 500) for number in range(40)]
    for more in ([("x-more", "x" * 40_000)], [("x-more", "x" * 17_000)], many):
        assert (
            raw_call(channel, "CreateTask", request, user=api.user, more=more).code() is StatusCode.RESOURCE_EXHAUSTED
        )
    assert not api.list().tasks
    raw_call(channel, "CreateTask", request, user=api.user, more=[("x-more", "x" * 12_000)]).result()
    assert len(api.list().tasks) == 1


# Methods


@pytest.mark.parametrize(
    "method",
    [
        "/taskwell.v1.TaskService/RenameTask",
        "/taskwell.v1.TaskService/gettask",
        "/taskwell.v1.TaskService/GetTask/",
        "/taskwell.v1.TaskService/",
        "/taskwell.v2.TaskService/GetTask",
        "/tasks.TaskService/GetTask",
        "/TaskService/GetTask",
        "/grpc.health.v1.Health/Checkup",
        "/nothing",
        "/",
        "/%00/\t'",
    ],
)
def test_an_unknown_method_is_unimplemented_for_every_kind_of_caller(channel: grpc.Channel, method: str) -> None:
    unary: Any = channel.unary_unary(method)
    answering: Any = channel.unary_stream(method)
    asking: Any = channel.stream_unary(method)
    talking: Any = channel.stream_stream(method)
    for metadata in ((), (("x-user-id", "alice"),)):
        with refused(StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN"):
            unary(b"", metadata=metadata, timeout=DEADLINE)
        with refused(StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN"):
            next(answering(b"", metadata=metadata, timeout=DEADLINE))
        for messages in ([], [b""], [b"", b""]):
            with refused(StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN"):
                asking(iter(messages), metadata=metadata, timeout=DEADLINE)
            with refused(StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN"):
                next(talking(iter(messages), metadata=metadata, timeout=DEADLINE))


# Load and time. What holds a call up is a lock that the test takes in the database.


def start_until_all_but_one_ended(api: Api, count: int) -> tuple[list[Any], Any]:
    """Start creates; answers those that ended, when only one is left, and the one."""
    ended: SimpleQueue[Any] = SimpleQueue()
    calls = [api.start("CreateTask", CREATE) for _ in range(count)]
    for call in calls:
        call.add_done_callback(ended.put)
    over = [ended.get(timeout=DEADLINE) for _ in range(count - 1)]
    [left] = [call for call in calls if not call.done()]
    return over, left


def test_a_call_too_many_waits_and_is_then_refused(database_url: str) -> None:
    rows = Rows(database_url)
    with serving(database_url, max_in_flight=1) as channel:
        api = Api(channel)
        with rows.locked():
            over, left = start_until_all_but_one_ended(api, 5)
            health: Any = health_pb2_grpc.HealthStub(channel)
            health.Check(health_pb2.HealthCheckRequest())  # is not counted
            assert not left.done()
        for call in over:
            assert call.code() is StatusCode.RESOURCE_EXHAUSTED
            refusal = refusal_of(call)
            assert refusal.reason == "OVERLOADED"
            assert refusal.retry_delay is not None
            assert 0 < refusal.retry_delay < 5
        assert [left.result()] == list(api.list().tasks)


def test_an_ended_call_makes_room_for_another_however_it_ended(database_url: str) -> None:
    with serving(database_url, max_in_flight=1) as channel:
        api = Api(channel)
        for _ in range(5):
            with refused(StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED"):
                raw_call(channel, "GetTask", b"\xff", user=api.user).result()
            with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
                api.get("x")
            assert not api.list().tasks


def test_a_call_ends_at_its_deadline_and_the_server_serves_on(channel: grpc.Channel, rows: Rows) -> None:
    api = Api(channel)
    with rows.locked():
        call = raw_call(channel, "CreateTask", CREATE.SerializeToString(), user=api.user, timeout=0.2)
        assert call.code() is StatusCode.DEADLINE_EXCEEDED
        assert not api.list().tasks
    assert Empty() == api.call("DeleteTask", tasks_pb2.DeleteTaskRequest(id=api.create().id))


def test_a_cancelled_call_leaves_the_server_serving(channel: grpc.Channel, rows: Rows) -> None:
    api = Api(channel)
    with rows.locked():
        call = api.start("CreateTask", CREATE)
        call.cancel()
        assert not api.list().tasks
    assert api.create() in api.list().tasks


def test_no_call_takes_longer_than_the_service_allows_and_what_did_not_begin_is_dropped(database_url: str) -> None:
    rows = Rows(database_url)
    # Without the coalescer, since nothing says how many of them its first set would hold.
    one_at_a_time = {"coalesce": False, "database_pool_size": 1, "database_max_overflow": 0}
    with serving(database_url, max_call_seconds=3, **one_at_a_time) as channel:
        api = Api(channel)
        with rows.locked():
            for call in [api.start("CreateTask", CREATE) for _ in range(10)]:
                with refused(StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"):
                    call.result()
        task = api.create()
        assert task in api.list().tasks
        # What was with the database already ended as it would: on a connection, and on another beside the stalled one.
        assert len(api.list().tasks) <= 3
