"""Several workers: sharing the port, restarts, graceful shutdown."""

import json
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from grpc import StatusCode
from taskwell.v1 import tasks_pb2

from tests.running import new_user, refused
from tests.server.starting import TIMEOUT, accepts, is_free, refuses, run, serving
from tests.server.workers import call_until, held_call, workers
from tests.waiting import until


@pytest.fixture
def url(database_kind: str, request: pytest.FixtureRequest) -> str:
    """A database URL of either kind."""
    return "sqlite:///taskwell.db" if database_kind == "sqlite" else str(request.getfixturevalue("postgresql_url"))


def is_running(pid: int) -> bool:
    """True unless the process has ended; a zombie has no command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except FileNotFoundError:
        return False


def path_with(folder: Path, code: str) -> str:
    """The PYTHONPATH of a server whose processes run this code when they start."""
    (folder / "sitecustomize.py").write_text(code)
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_workers_all_serve_and_announce_the_address_once(tmp_path: Path, url: str) -> None:
    with workers(tmp_path, "--database-url", url) as running:
        call_until(lambda: running.serving() == {1, 2}, running)
        assert f"{running.address} taskwell.v1.TaskService/CreateTask" in running.server.hint
        assert set(running.pids) == {1, 2}
        assert running.server.end() == 0
        assert running.server.rest() == ""  # metrics are off unless they are asked for


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_graceful_shutdown_of_workers_drains_calls_and_refuses_new_ones(folder: Path, number: signal.Signals) -> None:
    with workers(folder) as running, held_call(running, folder) as (held, release):
        running.server.process.send_signal(number)
        until(lambda: refuses(running.address))
        assert not held.done()
        release()
        assert held.result().status == tasks_pb2.TASK_STATUS_COMPLETE
        assert running.server.process.wait(TIMEOUT) == 0


def test_a_signal_to_every_process_does_not_count_twice(folder: Path) -> None:
    with workers(folder) as running, held_call(running, folder) as (held, release):
        running.server.process.terminate()
        until(lambda: len(running.lines("shutting down")) == 3)
        for pid in running.pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        until(lambda: refuses(running.address))
        assert not held.done()
        release()
        assert held.result().status == tasks_pb2.TASK_STATUS_COMPLETE
        assert running.server.process.wait(TIMEOUT) == 0


def test_a_second_signal_kills_workers(folder: Path) -> None:
    with workers(folder, "--shutdown-grace", "600") as running, held_call(running, folder) as (held, _):
        running.server.process.terminate()
        until(lambda: refuses(running.address))
        assert not held.done()
        assert running.server.end() == 128 + signal.SIGTERM
        assert held.code() == StatusCode.UNAVAILABLE
        assert len(running.lines("stopped")) < 2  # whoever had the call did not come to its end


def test_a_killed_worker_is_replaced_while_the_others_serve(folder: Path, url: str) -> None:
    with workers(folder, "--database-url", url) as running:
        call_until(lambda: running.serving() == {1, 2}, running)
        before = running.pids
        os.kill(before[1], signal.SIGKILL)
        until(lambda: running.lines("worker exited") != [])
        call_until(lambda: running.pids[1] != before[1], running)
        [end] = running.lines("worker exited")
        assert (end["worker"], end["status"]) == (1, "signal 9 (Killed)")
        assert running.pids[2] == before[2]
        answered = len([line for line in running.lines("rpc") if line["worker"] == 1])
        call_until(lambda: len([line for line in running.lines("rpc") if line["worker"] == 1]) > answered, running)
        assert running.server.end() == 0
        assert running.server.rest() == ""


def test_a_worker_that_gets_sigterm_drains_and_is_replaced(folder: Path) -> None:
    with workers(folder, count=2) as running, held_call(running, folder) as (held, release):
        before = running.pids
        for pid in before.values():
            os.kill(pid, signal.SIGTERM)
        until(lambda: len(running.lines("worker ready")) == 3)
        assert not held.done()
        release()
        assert held.result().status == tasks_pb2.TASK_STATUS_COMPLETE
        until(lambda: len(running.lines("worker ready")) == 4)


def test_a_restarted_worker_keeps_the_settings(folder: Path) -> None:
    (folder / ".env").write_text("TASKWELL_USERS=known\n")
    with workers(folder) as running:
        (folder / ".env").write_text("TASKWELL_USERS=any\nTASKWELL_GRPC_ADDRESS=127.0.0.1:1\n")
        for pid in running.pids.values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(running.lines("worker ready")) == 4)
        with running.api() as api, refused(StatusCode.PERMISSION_DENIED, "CALLER_UNKNOWN"):
            api.create()


def test_workers_that_never_start_end_the_server(folder: Path) -> None:
    path = path_with(folder, "import os, sys\nif 'work' in sys.orig_argv: os._exit(1)\n")
    answer = run("serve", "--workers", "2", "--grpc-address", "127.0.0.1:0", folder=folder, PYTHONPATH=path)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert (
        "no worker starts: each exited 5 times in a row before it was ready, the last one with exit status 1"
        in answer.stderr
    )
    assert "Traceback" not in answer.stderr


def test_a_worker_that_does_not_start_stops_none_that_serves(folder: Path) -> None:
    code = "import os, sys\nif 'work' in sys.orig_argv and sys.orig_argv[-1] == '2': os._exit(1)\n"
    with workers(folder, ready=1, PYTHONPATH=path_with(folder, code)) as running:
        assert set(running.pids) == {1}
        with running.api() as api:
            api.create()
        assert running.server.end() == 0


@pytest.mark.parametrize("hang", ["stopped", "blocked event loop"])
def test_a_worker_that_hangs_is_replaced_while_the_others_serve(folder: Path, hang: str) -> None:
    code = "import signal, threading\nsignal.signal(signal.SIGALRM, lambda *_: threading.Event().wait())\n"
    options = ("--worker-timeout", "5", "--metrics-address", "127.0.0.1:0")
    with workers(folder, *options, PYTHONPATH=path_with(folder, code)) as running:
        before = running.pids
        os.kill(before[1], signal.SIGSTOP if hang == "stopped" else signal.SIGALRM)
        until(lambda: running.pids[1] != before[1])
        assert [(line["worker"], line["pid"]) for line in running.lines("worker hangs")] == [(1, before[1])]
        assert running.pids[2] == before[2]
        call_until(lambda: running.serving() == {1, 2}, running)
        with urlopen(f"http://{running.server.metrics_address}/metrics", timeout=TIMEOUT) as answer:
            metrics = answer.read().decode()
        assert 'taskwell_worker_restarts_total{cause="hang"} 1.0' in metrics
        assert 'taskwell_workers{state="ready"} 2.0' in metrics
        assert running.server.end() == 0


def test_workers_that_were_stopped_together_with_the_supervisor_are_not_killed(folder: Path) -> None:
    timeout = 3.0
    with workers(folder, "--worker-timeout", str(timeout)) as running:
        before = running.pids
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in (running.server.process.pid, *before.values()):
                os.kill(pid, number)
            waited = threading.Event()
            threading.Timer(2 * timeout, waited.set).start()
            until(waited.is_set)
        assert running.lines("worker hangs") == []
        assert running.pids == before
        assert running.server.end() == 0


def test_workers_end_when_the_supervisor_is_killed_even_those_that_hang(folder: Path) -> None:
    # The third one is in C code that does not release the interpreter lock.
    code = (
        "import re, signal, threading\n"
        "signal.signal(signal.SIGUSR1, lambda *_: threading.Event().wait())\n"
        "signal.signal(signal.SIGUSR2, lambda *_: re.match('(a+)+b', 'a' * 99))\n"
    )
    hangs = (signal.SIGSTOP, signal.SIGUSR1, signal.SIGUSR2)
    arguments = ("--worker-timeout", "600")
    with workers(folder, *arguments, count=4, PYTHONPATH=path_with(folder, code)) as running:
        with held_call(running, folder) as (held, _):
            for pid, number in zip(running.pids.values(), hangs, strict=False):
                os.kill(pid, number)
            running.server.process.kill()
            until(lambda: is_free(running.address))
            assert held.code() == StatusCode.UNAVAILABLE
        until(lambda: not any(is_running(pid) for pid in running.pids.values()))


def test_a_worker_whose_supervisor_has_ended_does_not_start(folder: Path) -> None:
    answer = run("work", "", "1", folder=folder)  # its input is at its end
    line = json.loads(answer.stderr)
    assert (answer.returncode, line["event"], line["message"]) == (1, "cannot start", "the supervisor has ended")


@pytest.mark.parametrize("first", [1, 2])
def test_a_port_in_use_is_refused(folder: Path, first: int) -> None:
    with serving(folder, ["--workers", str(first)]) as server:
        for second in (1, 2):
            arguments = ("--grpc-address", server.address, "--workers", str(second))
            answer = run("serve", *arguments, folder=folder)
            assert (answer.returncode, answer.stdout) == (1, "")
            assert f"cannot listen on {server.address}" in answer.stderr
            assert "--grpc-address" in answer.stderr
            assert "Traceback" not in answer.stderr


def test_the_port_stays_reserved_while_no_worker_runs(folder: Path) -> None:
    with workers(folder) as running:
        for pid in running.pids.values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not accepts(running.address) or len(running.lines("worker ready")) > 2)
        assert not is_free(running.address)
        until(lambda: len(running.lines("worker ready")) == 4)
        assert not is_free(running.address)


@pytest.mark.parametrize("address", ["localhost:0", "[::1]:0"])
def test_workers_share_a_host_name_or_an_ipv6_address(folder: Path, address: str) -> None:
    if address.startswith("[") and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with workers(folder, "--grpc-address", address) as running:
        assert running.address.rpartition(":")[0] == address.rpartition(":")[0]
        call_until(lambda: running.serving() == {1, 2}, running)


def test_workers_write_to_one_sqlite_file_without_losing_writes(folder: Path) -> None:
    user = new_user()
    created: list[str] = []

    def write() -> None:
        with running.api(user) as api:
            created.extend(api.create().id for _ in range(10))

    with workers(folder) as running, running.api(user) as api:
        writers = [threading.Thread(target=write) for _ in range(16)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert running.serving() == {1, 2}
        assert len(created) == 160
        assert set(created) == {task.id for task in api.walk(page_size=1000)}
