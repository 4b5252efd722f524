"""REST of a process: announcement, graceful shutdown, several workers."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from tests.rest.client import Client, RestApi
from tests.rest.test_access import context
from tests.server.starting import TIMEOUT, Server, accepts, run, serving
from tests.server.workers import workers
from tests.tls.issuing import HOSTS, Authority, Files
from tests.waiting import until

REST = ("--rest-address", "127.0.0.1:0")


def rest_of(server: Server) -> str:
    """Read the announced REST address."""
    assert server.process.stdout
    line = server.process.stdout.readline()
    assert line.startswith("REST listening on "), line
    return line.split()[-1]


def test_rest_is_announced_logged_and_keeps_its_address(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as log, serving(tmp_path, (*REST, "--log-format", "json"), log=log) as server:
        address = rest_of(server)
        assert server.process.stdout
        hint = server.process.stdout.readline()
        assert (
            hint == f"Try: curl -H 'x-user-id: alice' --json '{{\"title\": \"Buy milk\"}}' http://{address}/v1/tasks\n"
        )
        client = Client(address)
        api = RestApi(client, "alice")
        if shutil.which("curl"):
            command = ["bash", "-c", hint.removeprefix("Try: ")]
            told = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout
            assert [json.loads(told)] == api.send("GET", "/v1/tasks").json["tasks"]
        assert api.send("POST", "/v1/tasks", '{"colour": "red"}').status == 400
        assert api.send("GET", "/nowhere").status == 404
        assert client.exchange(b"what is this?\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        refused = b"GET /v1/tasks/1 HTTP/1.1\r\nhost: localhost\r\n%b\r\n"
        client.exchange(refused % b"x-user-id: bob\r\n" + refused % b"connection: close\r\n")
        upgrade = b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\nupgrade: x\r\nconnection: upgrade, close\r\n\r\n"
        assert client.exchange(upgrade).startswith(b"HTTP/1.1 404 ")
        more = ("--rest-address", address, "--workers", "2")
        answer = run("serve", "--grpc-address", "127.0.0.1:0", *more, folder=tmp_path)
        assert (answer.returncode, answer.stdout) == (1, "")
        assert f"cannot listen on {address}" in answer.stderr
        assert "TASKWELL_REST_ADDRESS or --rest-address" in answer.stderr
        client.close()
        assert server.end() == 0
    first, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert first["event"] == "starting"
    events = [(line["event"], line.get("reason")) for line in lines]
    assert (events[0], lines[0]["user"]) == (("rpc", "INVALID_FIELD"), "alice")
    callers = [(line["user"], line["reason"]) for line in lines[1:] if line["event"] == "rpc"]
    assert callers == [("bob", "INVALID_FIELD"), (None, "CALLER_MISSING")], (
        "the second is not logged as the first one's"
    )
    assert {event for event, _ in events[3:]} <= {"shutting down", "stopped"}
    assert "task.colour" in lines[0]["message"]


def test_rest_is_not_imported_without_rest_address() -> None:
    loaded = "import sys, service.server.app; sys.exit(any(name in sys.modules for name in ('starlette', 'uvicorn')))"
    assert subprocess.run([sys.executable, "-c", loaded], timeout=TIMEOUT, check=False).returncode == 0


def test_rest_shutdown_drains_requests_and_refuses_new_ones(tmp_path: Path) -> None:
    with (
        serving(tmp_path, REST) as server,
        closing(sqlite3.connect(tmp_path / "taskwell.db", isolation_level=None)) as db,
    ):
        client = Client(rest_of(server))
        api = RestApi(client)
        task = api.create()
        db.execute("BEGIN IMMEDIATE")
        idle = client.socket()
        idle.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        received = b""
        while not received.endswith(b"}"):
            received += idle.recv(65536)
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(api.send, "POST", f"/v1/tasks/{task.id}:complete")
            assert api.get(task.id) == task
            server.process.terminate()
            until(lambda: not accepts(client.address))
            assert idle.recv(65536) == b"", "nobody has to wait for who asks for nothing"
            assert not held.done()
            db.execute("ROLLBACK")
            answer = held.result()
        assert (answer.status, answer.json["status"]) == (200, "TASK_STATUS_COMPLETE")
        assert answer.headers["connection"] == "close"
        assert server.process.wait(TIMEOUT) == 0
        idle.close()
        client.close()


def test_rest_shutdown_aborts_requests_after_the_grace(tmp_path: Path) -> None:
    with (
        serving(tmp_path, (*REST, "--shutdown-grace", "0.5")) as server,
        closing(sqlite3.connect(tmp_path / "taskwell.db", isolation_level=None)) as db,
    ):
        client = Client(rest_of(server))
        api = RestApi(client)
        task = api.create()
        db.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(api.send, "POST", f"/v1/tasks/{task.id}:complete")
            assert api.get(task.id) == task
            assert server.end() == 0
            answer = held.result()
            assert (answer.status, answer.reason, answer.headers["connection"]) == (503, "SHUTTING_DOWN", "close")
        client.close()


def test_a_client_that_does_not_answer_the_end_of_tls_does_not_hold_up_the_drain(tmp_path: Path) -> None:
    authority = Authority()
    settings = Files(tmp_path, authority.issue(*HOSTS)).settings
    options = [f"--{name.replace('_', '-')}={path}" for name, path in settings.items()]
    with serving(tmp_path, (*REST, *options, "--shutdown-grace", "600")) as server:
        client = Client(rest_of(server))
        with context(authority).wrap_socket(client.socket(), server_hostname="localhost") as secure:
            secure.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert secure.recv(65536)
            assert server.end() == 0
        client.close()


def test_rest_is_shared_by_workers_and_a_dead_worker_is_replaced(tmp_path: Path) -> None:
    with workers(tmp_path, *REST) as running:
        client = Client(rest_of(running.server))
        api = RestApi(client)

        def called() -> None:
            client.forget()  # and so ask a worker that the kernel picks
            assert api.send("GET", "/v1/tasks").status == 200

        def answered(worker: int) -> int:
            return len([line for line in running.lines("rpc") if line["worker"] == worker])

        def is_answering(worker: int, more_than: int) -> bool:
            called()
            return answered(worker) > more_than

        until(lambda: is_answering(1, 0) and is_answering(2, 0))
        before = running.pids
        os.kill(before[1], signal.SIGKILL)
        until(lambda: len(running.lines("worker ready")) == 3)
        calls = answered(1)
        until(lambda: is_answering(1, calls))
        assert running.server.end() == 0
        assert running.server.rest().count("listening") == 0
        client.close()


def test_log_lines_of_libraries_have_the_same_format() -> None:
    program = (
        "import logging; from service.log import configure_log; configure_log('info', 'json', worker=3);"
        "logging.getLogger('uvicorn.error').warning('so %s', 'so'); logging.getLogger('uvicorn.error').info('not this')"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT, check=True)
    [line] = [json.loads(line) for line in told.stderr.splitlines()]
    assert (line["event"], line["level"], line["logger"], line["worker"]) == ("so so", "warning", "uvicorn.error", 3)
