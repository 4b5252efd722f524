"""`taskwell serve` as one process: announcements, graceful shutdown, durability, log."""

import re
import signal
import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from taskwell.v1 import tasks_pb2

from tests.running import new_user
from tests.server.starting import TIMEOUT, accepts, refuses, serving
from tests.waiting import until


def test_serve_announces_its_address_and_an_example_call(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.api() as api:
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", server.address)
        assert f"{server.address} taskwell.v1.TaskService/CreateTask" in server.hint
        api.create()
    assert (tmp_path / "taskwell.db").exists()


def test_tasks_survive_a_restart(folder: Path) -> None:
    user = new_user()
    with serving(folder) as server, server.api(user) as api:
        task = api.create()
        assert server.end() == 0
    with serving(folder) as server, server.api(user) as api:
        assert task == api.get(task.id)


def test_an_acknowledged_write_survives_a_kill(
    folder: Path, database_kind: str, request: pytest.FixtureRequest
) -> None:
    url = "sqlite:///taskwell.db" if database_kind == "sqlite" else request.getfixturevalue("postgresql_url")
    user, acknowledged = new_user(), []
    with serving(folder, ["--database-url", url, "--workers", "1"]) as server, server.api(user) as api:
        enough = threading.Event()

        def write() -> None:
            while True:
                try:
                    acknowledged.append(api.create().id)
                except grpc.RpcError:
                    return
                if len(acknowledged) > 100:
                    enough.set()

        writers = [threading.Thread(target=write) for _ in range(4)]
        for writer in writers:
            writer.start()
        enough.wait()
        server.process.kill()
        for writer in writers:
            writer.join()
    with serving(folder, ["--database-url", url]) as server, server.api(user) as api:
        assert set(acknowledged) <= {task.id for task in api.walk(page_size=1000)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_graceful_shutdown_drains_calls_refuses_new_ones_and_exits_with_0(folder: Path, number: signal.Signals) -> None:
    with serving(folder) as server, server.api() as api:
        task = api.create()
        with closing(sqlite3.connect(folder / "taskwell.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            held = api.start("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task.id))
            api.list()  # answered after `held` has arrived: they share a connection
            health: Any = health_pb2_grpc.HealthStub(api.channel)
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            server.process.send_signal(number)
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            until(lambda: refuses(server.address))
            assert not held.done()
            other.execute("ROLLBACK")
            assert held.result().status == tasks_pb2.TASK_STATUS_COMPLETE
        assert server.process.wait(TIMEOUT) == 0
        with pytest.raises(grpc.RpcError) as ended:
            next(watch)
        assert ended.value.code() == StatusCode.UNAVAILABLE


def test_shutdown_grace_aborts_calls_in_flight(folder: Path) -> None:
    with serving(folder, ["--shutdown-grace", "0.2"]) as server, server.api() as api:
        task = api.create()
        with closing(sqlite3.connect(folder / "taskwell.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            held = api.start("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task.id))
            api.list()
            assert server.end() == 0
            assert held.code() == StatusCode.UNAVAILABLE


def test_a_second_signal_exits_at_once(folder: Path) -> None:
    with serving(folder, ["--shutdown-grace", "600"]) as server, server.api() as api:
        task = api.create()
        with closing(sqlite3.connect(folder / "taskwell.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            held = api.start("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task.id))
            api.list()
            server.process.terminate()
            until(lambda: refuses(server.address))
            assert not held.done()
            assert server.end() == 128 + signal.SIGTERM


def test_calls_over_their_deadline_leave_nothing_behind(
    folder: Path, database_kind: str, request: pytest.FixtureRequest
) -> None:
    url = "sqlite:///taskwell.db" if database_kind == "sqlite" else request.getfixturevalue("postgresql_url")
    pool = ["--database-pool-size", "1", "--database-max-overflow", "1"]
    with serving(folder, ["--database-url", url, *pool]) as server, server.api() as api:
        task = api.create()
        metadata = (("x-user-id", api.user),)
        for deadline in (0.001, 0.003, 0.01, 0.03):
            get = tasks_pb2.GetTaskRequest(id=task.id)
            calls = [api.stub.GetTask.future(get, metadata=metadata, timeout=deadline) for _ in range(100)]
            complete = tasks_pb2.CompleteTaskRequest(id=task.id)
            calls += [api.stub.CompleteTask.future(complete, metadata=metadata, timeout=deadline) for _ in range(50)]
            assert {call.code() for call in calls} <= {StatusCode.OK, StatusCode.DEADLINE_EXCEEDED}
        assert api.get(task.id).id == task.id
        server.process.terminate()
        _, err = server.process.communicate()
    assert server.process.returncode == 0
    assert [line for line in err.splitlines() if not line.startswith("{")] == []


def test_log_lines_go_to_standard_error_as_json(folder: Path) -> None:
    with serving(folder, ["--log-level", "debug"]) as server, server.api() as api:
        task = api.create()
        with pytest.raises(grpc.RpcError):
            api.as_user().get(task.id)
        server.process.terminate()
        out, err = server.process.communicate()
    assert out == ""
    lines = [line for line in err.splitlines() if '"method"' in line]
    assert [('"code": "OK"' in line, '"code": "NOT_FOUND"' in line) for line in lines] == [(True, False), (False, True)]
    assert '"level": "debug"' in lines[0]


def test_accepts_detects_a_closed_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert accepts(address)
    assert not accepts(address)
