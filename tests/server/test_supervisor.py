"""The supervisor, with tiny processes that follow its protocol or break it."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.server.supervisor import RestartPolicy, Supervisor, WorkersFailed
from tests.waiting import eventually, until

# Ready at once; runs until end of file on standard input.
READY = "os.write(1, b'Ready.\\n\\0')"
GOOD = f"{READY}; sys.stdin.read()"
NO_BACKOFF = RestartPolicy(backoff=0)


def command_of(program: str) -> list[str]:
    return [sys.executable, "-S", "-c", f"import os, sys, threading; from pathlib import Path\n{program}"]


def after(deaths: int, folder: Path, death: str) -> str:
    """Return a program that exits so many times, then works; files in the folder count its starts from 0."""
    return f"""
died = len(list(Path({str(folder)!r}).iterdir()))
Path({str(folder)!r}, str(died)).touch()
if died < {deaths}: {death}
{GOOD}
"""


async def announced_by(program: str, count: int = 1, policy: RestartPolicy = NO_BACKOFF) -> tuple[list[str], bool]:
    """Run processes, stop them at the announcement; return the announcements and the result of `run`."""
    announced = []

    def announce(words: str) -> None:
        announced.append(words)
        supervisor.stop()

    supervisor = Supervisor(command_of(program), count, announce=announce, policy=policy)
    clean = await supervisor.run()
    return announced, clean


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def backoffs(log: Sequence[Any]) -> list[float]:
    return [line["restart_in"] for line in log if "restart_in" in line]


async def test_one_announcement_is_made_when_all_processes_are_ready(tmp_path: Path) -> None:
    counting = f"Path({str(tmp_path)!r}, sys.argv[1]).touch()"
    assert await announced_by(f"{counting}; {GOOD}", count=3) == (["Ready.\n"], True)
    assert files_in(tmp_path) == {"1", "2", "3"}


async def test_restarts_back_off_exponentially(tmp_path: Path) -> None:
    policy = RestartPolicy(backoff=0.001, max_backoff=0.004)
    with capture_logs() as log:
        assert await announced_by(after(4, tmp_path, "os._exit(3)"), policy=policy) == (["Ready.\n"], True)
    assert backoffs(log) == [0.001, 0.002, 0.004, 0.004]
    assert [line["status"] for line in log if "status" in line] == ["exit status 3"] * 4


async def test_restart_backoff_is_reset_by_a_long_run(tmp_path: Path) -> None:
    with capture_logs() as log:
        await announced_by(after(4, tmp_path, "os._exit(3)"), policy=RestartPolicy(backoff=0.001, reset_after=0))
    assert backoffs(log) == [0.001] * 4


async def test_supervisor_gives_up_after_failed_starts_in_a_row() -> None:
    with pytest.raises(WorkersFailed) as given_up:
        await announced_by("os.kill(os.getpid(), 9)", count=2)
    assert str(given_up.value) == (
        "no worker starts: each exited 5 times in a row before it was ready, the last one with signal 9 (Killed): "
        "see its output above for the reason"
    )


async def test_a_process_that_never_starts_stops_no_other(tmp_path: Path) -> None:
    program = f"if sys.argv[1] == '2': sys.exit(3)\n{GOOD}; Path({str(tmp_path)!r}, 'finished').touch()"
    with capture_logs() as log:
        assert await announced_by(program, count=2) == (["Ready.\n"], True)
    assert {line["worker"] for line in log if line["event"] == "worker exited"} == {2}
    assert len(backoffs(log)) >= NO_BACKOFF.max_failed_starts, "until then the announcement waits for it"
    assert files_in(tmp_path) == {"finished"}


@pytest.mark.parametrize("hang", [f"{READY}; threading.Event().wait()", "threading.Event().wait()"])
async def test_a_process_without_heartbeats_is_killed_and_restarted(tmp_path: Path, hang: str) -> None:
    policy = RestartPolicy(backoff=0, heartbeat_timeout=0.1, start_timeout=0.1)
    supervisor = Supervisor(command_of(after(1000, tmp_path, hang)), 1, announce=lambda _: None, policy=policy)
    with capture_logs() as log:
        running = asyncio.create_task(supervisor.run())
        await asyncio.to_thread(until, lambda: len([line for line in log if line["event"] == "worker exited"]) > 2)
        supervisor.stop()
        await running
    hangs = [line for line in log if line["event"] == "worker hangs"]
    assert {line["status"] for line in log if "status" in line} == {"signal 9 (Killed)"}
    assert {line["was_ready"] for line in hangs} <= {"READY" in hang or "Ready" in hang, False}


class Recorded:
    """What a supervisor tells its observer."""

    def __init__(self) -> None:
        self.ready: list[int] = []
        self.restarts: list[tuple[int, str]] = []
        self.ages: list[tuple[int, float]] = []

    def on_ready(self, count: int) -> None:
        self.ready.append(count)

    def on_restart(self, worker: int, cause: str) -> None:
        self.restarts.append((worker, cause))

    def on_heartbeat_age(self, worker: int, seconds: float) -> None:
        self.ages.append((worker, seconds))


async def test_restarts_are_recorded_by_cause_and_heartbeats_by_age(tmp_path: Path) -> None:
    deaths = f"os._exit(3) if died == 0 else {READY}; os._exit(3) if died == 1 else threading.Event().wait()"
    recorded = Recorded()
    policy = RestartPolicy(backoff=0, heartbeat_timeout=0.1)
    program = after(3, tmp_path, deaths)
    supervisor = Supervisor(command_of(program), 1, announce=lambda _: None, policy=policy, observer=recorded)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: recorded.ready[-1:] == [1] and len(recorded.restarts) == 3)
    supervisor.stop()
    assert await running
    assert recorded.restarts == [(1, "start"), (1, "exit"), (1, "hang")], "and nothing for the shutdown"
    assert recorded.ready == [0, 1, 0, 1, 0, 1, 0]
    assert max(recorded.ages) >= (1, 0.1)


async def test_processes_that_were_ready_once_are_restarted_for_ever(tmp_path: Path) -> None:
    folders = [tmp_path / number for number in "12"]
    for folder in folders:
        folder.mkdir()
    program = f"""
folder = Path({str(tmp_path)!r}, sys.argv[1])
started = len(list(folder.iterdir()))
Path(folder, str(started)).touch()
if started == 0: {READY}
else: os._exit(3)
"""
    supervisor = Supervisor(command_of(program), 2, announce=lambda _: None, policy=NO_BACKOFF)
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: all((folder / "8").exists() for folder in folders) or running.done())
    supervisor.stop()
    assert await running


async def test_exits_of_ready_processes_are_not_failed_starts(tmp_path: Path) -> None:
    program = after(7, tmp_path, f"{READY}; os._exit(3)")
    supervisor = Supervisor(command_of(program), 1, announce=lambda _: None, policy=NO_BACKOFF)
    running = asyncio.create_task(supervisor.run())
    await asyncio.to_thread(until, (tmp_path / "7").exists)
    supervisor.stop()
    assert await running


async def test_a_successful_start_resets_the_count_of_failed_starts(tmp_path: Path) -> None:
    ready_once = f"{READY} if died == 3 else None; os._exit(3)"
    supervisor = Supervisor(command_of(after(7, tmp_path, ready_once)), 1, announce=lambda _: None, policy=NO_BACKOFF)
    running = asyncio.create_task(supervisor.run())
    await asyncio.to_thread(until, (tmp_path / "7").exists)
    supervisor.stop()
    assert await running


async def test_supervisor_gives_up_on_a_command_that_does_not_exist() -> None:
    with pytest.raises(WorkersFailed, match="No such file"):
        await Supervisor(["/does/not/exist"], 1, announce=print, policy=NO_BACKOFF).run()


async def test_one_that_does_not_end_is_killed_after_the_grace() -> None:
    deaf = f"{READY}; threading.Event().wait()"
    assert await announced_by(deaf, policy=RestartPolicy(grace=0)) == (["Ready.\n"], False)


async def test_a_failed_exit_during_shutdown_is_reported() -> None:
    assert await announced_by(f"{GOOD}; sys.exit(4)") == (["Ready.\n"], False)


@pytest.mark.parametrize("passes", range(6))
async def test_processes_that_are_starting_are_stopped_too(passes: int) -> None:
    supervisor = Supervisor(command_of(GOOD), 1, announce=print, policy=RestartPolicy(grace=600))
    running = asyncio.create_task(supervisor.run())
    for _ in range(passes):
        await asyncio.sleep(0)
    supervisor.stop()
    assert await running
