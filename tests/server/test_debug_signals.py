"""Debugging without a restart: stacks on SIGUSR1, debug on SIGUSR2, and SIGHUP, which does nothing."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.server.starting import COMMAND, TIMEOUT
from tests.server.workers import Workers, held_call, workers
from tests.waiting import until

SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def with_place(running: Workers, event: str, place: str) -> list[dict[str, Any]]:
    """The lines of an event with this place in their stacks."""
    return [line for line in running.lines(event) if any(place in each for each in line["stack"])]


def test_sigusr1_logs_stacks_and_sigusr2_turns_the_log_level_of_all_workers(folder: Path) -> None:
    with workers(folder, "--log-level", "info") as running:
        process = running.server.process
        with held_call(running, folder) as (held, release):
            for number in SIGNALS:
                process.send_signal(number)
            until(lambda: with_place(running, "tasks", "coalescer.py") != [])
            until(lambda: {line.get("worker") for line in running.lines("thread")} == {None, 1, 2})
            assert with_place(running, "thread", "debug_signals.py") != []
            assert not held.done()
            release()
            held.result()
        until(lambda: len(running.lines("log level changed")) == 3)
        process.send_signal(signal.SIGUSR2)
        until(lambda: len(running.lines("log level changed")) == 6)
        changes = {(line.get("worker"), line["to"]) for line in running.lines("log level changed")}
        assert changes == {(worker, level) for worker in (None, 1, 2) for level in ("info", "debug")}
        process.send_signal(signal.SIGUSR2)
        os.kill(running.pids[1], signal.SIGKILL)
        until(lambda: len(running.lines("worker ready")) == 3)
        until(lambda: sum(line.get("worker") == 1 for line in running.lines("log level changed")) >= 3)
        assert running.server.end() == 0


def test_sigusr1_logs_the_stack_of_an_event_loop_that_hangs(folder: Path) -> None:
    code = "import signal, threading\nsignal.signal(signal.SIGALRM, lambda *_: threading.Event().wait())\n"
    (folder / "sitecustomize.py").write_text(code)
    with workers(folder, count=1, PYTHONPATH=str(folder)) as running:
        process = running.server.process
        process.send_signal(signal.SIGALRM)

        def is_shown() -> bool:
            process.send_signal(signal.SIGUSR1)
            return with_place(running, "thread", "sitecustomize.py") != []

        until(is_shown)


def test_signals_for_debugging_do_not_end_a_server_that_is_starting(tmp_path: Path) -> None:
    url = "postgresql://127.0.0.1:1/tasks"
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen([*COMMAND, "serve", "--database-url", url], cwd=tmp_path, stderr=file)
    try:
        until(lambda: "waiting for the database" in log.read_text())
        for number in SIGNALS:
            process.send_signal(number)
        waited = log.read_text().count("waiting for the database")
        until(lambda: log.read_text().count("waiting for the database") > waited)
        process.terminate()
        assert process.wait(TIMEOUT) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
