"""The metrics endpoint of a process, scraped as by Prometheus, with one worker and with several."""

import os
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import grpc
import pytest
from grpc import StatusCode
from prometheus_client.parser import text_string_to_metric_families
from taskwell.v1 import tasks_pb2

from tests.running import refused
from tests.server.starting import TIMEOUT, run
from tests.server.workers import Workers, call_until, held_call, workers
from tests.waiting import until

SERVICE = "taskwell.v1.TaskService"


class Scraped(Workers):
    """A running server and its metrics."""

    def __init__(self, running: Workers) -> None:
        self.__dict__ = running.__dict__
        assert self.server.process.stdout
        line = self.server.process.stdout.readline()
        assert line.startswith("metrics listening on "), line
        self.metrics_address = line.split()[-1]

    def scrape(self) -> str:
        with urlopen(f"http://{self.metrics_address}/metrics", timeout=TIMEOUT) as answer:
            assert answer.headers.get_content_type() == "text/plain"
            return str(answer.read().decode())

    def value(self, name: str, **labels: str) -> float:
        """Return the value of a sample; 0 if it does not exist."""
        samples = (sample for family in text_string_to_metric_families(self.scrape()) for sample in family.samples)
        return sum(sample.value for sample in samples if (sample.name, sample.labels) == (name, labels))

    def handled(self, method: str, code: str, service: str = SERVICE) -> float:
        labels = {"grpc_type": "unary", "grpc_service": service, "grpc_method": method, "grpc_code": code}
        return self.value("grpc_server_handled_total", **labels)


@contextmanager
def scraped(folder: Path, *arguments: str, count: int = 2) -> Iterator[Scraped]:
    (folder / "tmp").mkdir()
    options = ["--metrics-address", "127.0.0.1:0", *arguments]
    with workers(folder, *options, count=count, TMPDIR=str(folder / "tmp")) as running:
        yield Scraped(running)


@pytest.fixture(params=[1, 2])
def count(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


def test_metrics_sum_calls_by_method_and_code_over_the_workers(folder: Path, count: int) -> None:
    with scraped(folder, count=count) as running:
        for _ in range(20):
            with running.api() as api:
                task = api.create()
                api.get(task.id)
                with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
                    api.as_user().get(task.id)
                with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
                    api.create(title="")
                with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                    api.stub.GetTask(tasks_pb2.GetTaskRequest(id=task.id))
                with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
                    api.channel.unary_unary(f"/{SERVICE}/{api.user}")(b"")  # type: ignore[arg-type]
        assert len(running.serving()) == count
        assert running.handled("CreateTask", "OK") == 20
        assert running.handled("CreateTask", "InvalidArgument") == 20
        assert running.handled("GetTask", "OK") == 20
        assert running.handled("GetTask", "NotFound") == 20
        assert running.handled("GetTask", "Unauthenticated") == 20
        assert running.handled("unknown", "Unimplemented", "unknown") == 20
        labels = {"grpc_type": "unary", "grpc_service": SERVICE, "grpc_method": "GetTask"}
        assert running.value("grpc_server_started_total", **labels) == 60
        assert running.value("grpc_server_handling_seconds_count", **labels) == 60
        assert running.value("grpc_server_handling_seconds_bucket", **labels, le="+Inf") == 60
        assert 0 < running.value("grpc_server_handling_seconds_sum", **labels) < 60
        assert "user-" not in running.scrape()
        assert running.server.end() == 0
    assert list((folder / "tmp").iterdir()) == []


def test_metrics_count_cancelled_calls(folder: Path, count: int) -> None:
    with scraped(folder, count=count) as running, held_call(running, folder) as (held, release):
        until(lambda: running.value("taskwell_calls_in_flight") == 1)
        held.cancel()
        until(lambda: running.handled("CompleteTask", "Canceled") == 1)
        until(lambda: running.value("taskwell_calls_in_flight") == 0)
        release()


def test_metrics_count_calls_over_their_deadline(folder: Path, count: int) -> None:
    with scraped(folder, "--max-call-seconds", "3", count=count) as running:
        with held_call(running, folder) as (held, _):
            assert held.code() == StatusCode.DEADLINE_EXCEEDED
        until(lambda: running.handled("CompleteTask", "DeadlineExceeded") == 1)


def test_metrics_count_overload(folder: Path, count: int) -> None:
    with (
        scraped(folder, "--max-in-flight", "1", "--max-message-bytes", "1024", count=count) as running,
        running.api() as api,
        closing(sqlite3.connect(folder / "taskwell.db", isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        request = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="Buy milk"))
        calls = [api.start("CreateTask", request) for _ in range(2)]
        until(lambda: any(call.done() for call in calls))
        other.execute("ROLLBACK")
        assert {call.code() for call in calls} == {StatusCode.RESOURCE_EXHAUSTED, StatusCode.OK}
        with refused(StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"):
            api.create(description="x" * 2000)
        assert running.handled("CreateTask", "ResourceExhausted") == 2
        assert running.value("taskwell_overloaded_total") == 1


def test_metrics_keep_counters_but_not_gauges_of_a_dead_worker(folder: Path) -> None:
    with scraped(folder, "--max-call-seconds", "600") as running:
        with held_call(running, folder):
            until(lambda: running.value("taskwell_calls_in_flight") == 1)
            before = running.handled("ListTasks", "OK")
            holder = running.lines("rpc")[-1]["worker"]
            os.kill(running.pids[holder], signal.SIGKILL)
            until(lambda: running.lines("worker exited") != [])
            assert running.value("taskwell_calls_in_flight") == 0  # the other one answers for both
            until(lambda: len(running.lines("worker ready")) == 3)
        assert running.handled("ListTasks", "OK") == before
        call_until(lambda: running.handled("ListTasks", "OK") > before, running)


def test_a_metrics_address_in_use_is_refused(folder: Path, count: int) -> None:
    with scraped(folder, count=count) as running:
        arguments = ("--grpc-address", "127.0.0.1:0", "--metrics-address", running.metrics_address)
        for second in ("1", "2"):
            answer = run("serve", *arguments, "--workers", second, folder=folder)
            assert (answer.returncode, answer.stdout) == (1, "")
            assert f"cannot listen on {running.metrics_address}" in answer.stderr
            assert "TASKWELL_METRICS_ADDRESS" in answer.stderr
            assert "Traceback" not in answer.stderr


def threads_of(running: Workers) -> int:
    status = Path(f"/proc/{running.server.process.pid}/status").read_text()
    return int(status.partition("Threads:")[2].split()[0])


def test_metrics_are_served_beside_connections_that_do_not_come_to_an_end(folder: Path) -> None:
    with scraped(folder, count=1) as running, ExitStack() as opened:
        before = threads_of(running)
        host, _, port = running.metrics_address.rpartition(":")
        endless = [opened.enter_context(socket.create_connection((host, int(port)), TIMEOUT)) for _ in range(200)]
        for each in endless:
            with suppress(OSError):  # it is closed for the sake of a newer one
                each.sendall(b"GET /metrics HTTP/1.1\r\nx-endless: ")
        assert running.handled("CreateTask", "OK") == 0
        until(lambda: threads_of(running) <= before + 32)

        def is_closed() -> bool:
            try:
                endless[-1].sendall(b"x")
            except OSError:
                return True
            return False

        until(is_closed)
        assert running.server.end() == 0


def test_metrics_do_not_say_which_version_of_what_serves_them(folder: Path) -> None:
    with scraped(folder, count=1) as running:
        for method, code in (("GET", 200), ("NONSENSE" * 9000, 414)):
            request = Request(f"http://{running.metrics_address}/metrics", method=method)
            try:
                answer: Any = urlopen(request, timeout=TIMEOUT)
            except HTTPError as error:
                answer = error
            with answer:
                assert (answer.status, answer.headers.get_all("server")) == (code, ["taskwell"])


def test_a_metrics_file_that_cannot_be_read_is_skipped_and_its_worker_replaces_it(folder: Path) -> None:
    with scraped(folder) as running, running.api() as api:
        api.list()
        assert running.value("taskwell_metrics_files_unreadable") == 0
        [metrics] = (folder / "tmp").iterdir()
        unreadable = metrics / "broken"
        unreadable.write_bytes(b"\x7f" * 4096)
        unreadable.rename(metrics / "counted-1")
        # Worker 1 itself reads no file: it has its counts.
        until(lambda: running.value("taskwell_metrics_files_unreadable") == 1)
        assert running.value("taskwell_workers", state="ready") == 2
        assert len(running.lines("metrics files cannot be read")) == 1
        os.kill(running.pids[1], signal.SIGKILL)
        until(lambda: len(running.lines("worker ready")) == 3)
        assert len(running.lines("metrics file is replaced: it cannot be read")) == 1
        assert running.value("taskwell_metrics_files_unreadable") == 0
        assert running.value("taskwell_worker_restarts_total", cause="exit") == 1
        assert running.value("taskwell_worker_restarts_total", cause="hang") == 0
