"""The log lines of an overloaded server: few, and they say how many calls were refused."""

from pathlib import Path

import grpc
from taskwell.v1 import tasks_pb2

from tests.running import Api
from tests.server.workers import Workers, held_call, workers
from tests.waiting import until


def test_an_overload_is_logged_once_a_second_with_the_number_of_refused_calls(tmp_path: Path) -> None:
    arguments = ("--max-in-flight", "2", "--log-level", "warning", "--max-call-seconds", "600")
    with workers(tmp_path, *arguments, count=1) as running, held_call(running, tmp_path):
        with running.api() as api:
            task = tasks_pb2.Task(title="waits for the lock as well")
            waiting = api.start("CreateTask", tasks_pb2.CreateTaskRequest(task=task))
            until(lambda: is_refused(api))
            calls = [api.start("GetTask", tasks_pb2.GetTaskRequest(id="x")) for _ in range(50)]
            for call in calls:
                assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert not waiting.done()
        # A line for the first refusal of a second, and one with the number of the others.
        until(lambda: sum(line.get("refused", 1) for line in running.lines("overloaded")) == 1 + len(calls))
        assert len(running.lines("overloaded")) < len(calls)
        assert not running.lines("rpc")


def is_refused(api: Api) -> bool:
    """True when the server is full. Before, the call is INVALID_ARGUMENT, which is not logged as a warning."""
    code: grpc.StatusCode = api.start("GetTask", tasks_pb2.GetTaskRequest(id="x")).code()
    return code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_deadlines_that_pass_in_floods_are_logged_by_number(tmp_path: Path) -> None:
    with (
        workers(tmp_path, "--max-call-seconds", "1", "--log-level", "info", count=1) as running,
        held_call(running, tmp_path),
    ):
        with running.api() as api:
            task = tasks_pb2.Task(title="waits for the lock")
            calls = [api.start("CreateTask", tasks_pb2.CreateTaskRequest(task=task)) for _ in range(100)]
            assert {call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        until(lambda: lines(running) + sum(line["calls"] for line in running.lines("more calls like these")) > 100)
        assert lines(running) < 100


def lines(running: Workers) -> int:
    return sum(line["code"] == "DEADLINE_EXCEEDED" for line in running.lines("rpc"))
