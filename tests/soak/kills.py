"""kill -9 of the server, of a worker, of the supervisor and of PostgreSQL under load: no acknowledged write is lost.

    python -m tests.soak.kills [KILLS]      (100 of them in all, about six minutes)

A service manager's part is played here: what was killed is started again at once; a worker by its supervisor. The time
to recovery is that from the kill to the first create that succeeds over a new connection; for PostgreSQL, from the
moment at which it accepts connections again.
"""

import asyncio
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import grpc
import psycopg
import uvloop
from psycopg.conninfo import conninfo_to_dict
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from service.log import configure_log
from tests.faults.anomalies import Anomaly
from tests.faults.checker import check
from tests.faults.fault import POSTGRESQL, SQLITE
from tests.faults.history import FaultRecord, History
from tests.faults.system import TIMEOUT, ServerProcess
from tests.faults.workload import Load, Workload
from tests.postgres import fresh_database, running_postgres
from tests.waiting import eventually, until

SERVER, WORKER, SUPERVISOR, DATABASE = "server", "worker", "supervisor", "PostgreSQL"
SHARES = {
    (SERVER, SQLITE): 15,
    (SERVER, POSTGRESQL): 15,
    (WORKER, SQLITE): 15,
    (WORKER, POSTGRESQL): 15,
    (SUPERVISOR, SQLITE): 10,
    (SUPERVISOR, POSTGRESQL): 10,
    (DATABASE, POSTGRESQL): 20,
}
"""Of 100 kills."""
MAX_RECOVERY = 2.0
"""Most time until calls succeed again (s)."""
BETWEEN = 300
"""Calls that succeed between two kills."""
RATE = 600.0
"""Most calls per second."""
WORKERS = 2
SEED = 20261127
_READY = "worker ready"


class Target:
    """A running server with its database, and the ways to kill a part of them.

    Each way returns the moment from which the time to recovery counts.
    """

    def __init__(self, server: ServerProcess, postgres: Path | None) -> None:
        self._server = server
        self._postgres = postgres
        self._watches: list[asyncio.Task[None]] = []
        self.replaced: list[float] = []
        """Time until a killed worker was replaced, or until the workers of a killed supervisor had exited (s)."""

    async def kill_server(self) -> float:
        """Kill a server without workers, and start it again."""
        killed = monotonic()
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.start)
        return killed

    async def kill_worker(self) -> float:
        """Kill one of the workers, which the supervisor replaces."""
        await eventually(lambda: len(_children(self._server.pid)) == WORKERS)
        log = self._server.log
        ready = log.read_text().count(_READY)
        killed = monotonic()
        os.kill(random.choice(_children(self._server.pid)), signal.SIGKILL)
        self._watch(killed, lambda: log.read_text().count(_READY) > ready)
        return killed

    async def kill_supervisor(self) -> float:
        """Kill the supervisor, and start the server again. Its workers must end with it."""
        workers = _children(self._server.pid)
        killed = monotonic()
        self._watch(killed, lambda: not any(map(_runs, workers)))
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._start_when_address_is_free)
        return killed

    async def kill_postgres(self) -> float:
        """Kill every process of PostgreSQL, and start it again."""
        assert self._postgres
        await asyncio.to_thread(_kill_postgres, self._postgres)
        await asyncio.to_thread(_start_postgres, self._postgres, self._server.database_url)
        return monotonic()

    async def settled(self) -> None:
        """Wait until everything that was killed is replaced or gone."""
        await asyncio.gather(*self._watches)

    def _watch(self, since: float, condition: Callable[[], bool]) -> None:
        async def watch() -> None:
            await eventually(condition)
            self.replaced.append(monotonic() - since)

        self._watches.append(asyncio.create_task(watch()))

    def _start_when_address_is_free(self) -> None:
        """Start the server as a service manager does: again when it ends because the address is in use."""
        deadline = monotonic() + TIMEOUT
        while True:
            try:
                self._server.start()
                return
            except AssertionError:
                self._server.kill()
                if monotonic() > deadline:
                    raise


Kill = Callable[[Target], Awaitable[float]]
KILLS: dict[str, Kill] = {
    SERVER: Target.kill_server,
    WORKER: Target.kill_worker,
    SUPERVISOR: Target.kill_supervisor,
    DATABASE: Target.kill_postgres,
}


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs(pid: int) -> bool:
    """True unless the process has exited, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _kill_postgres(folder: Path) -> None:
    postmaster = int((folder / "postmaster.pid").read_text().split()[0])
    processes = [postmaster, *_children(postmaster)]
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(_runs, processes)))
    # PostgreSQL refuses to start while the process of a lock file exists, though it may be a zombie that nobody reaps.
    for lock in (folder / "postmaster.pid", *folder.glob(".s.PGSQL.*.lock")):
        lock.unlink()


def _start_postgres(folder: Path, url: str) -> None:
    """Start PostgreSQL with the options that it had, and return when it accepts connections."""
    program, *options = shlex.split((folder / "postmaster.opts").read_text())
    command = [str(Path(program).with_name("pg_ctl")), "--pgdata", str(folder), "--no-wait", "start"]
    command += ["--log", str(folder / "restarts.log"), "--options", shlex.join(options)]
    # PostgreSQL refuses to run as root. Not with `user=`, for which Python forks, which a process with gRPC must not.
    owner = folder.stat()
    code = f"import os, sys; os.setgid({owner.st_gid}); os.setuid({owner.st_uid}); os.execv(sys.argv[1], sys.argv[1:])"
    as_owner = [sys.executable, "-S", "-c", code] if os.geteuid() == 0 else []
    subprocess.run([*as_owner, *command], stdout=subprocess.DEVNULL, timeout=TIMEOUT, check=True)

    def accepts() -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=5):
            return True
        return False

    until(accepts)


@dataclass
class Result:
    """Figures of several kills of one part."""

    part: str
    database: str
    recoveries: list[float]
    replaced: list[float]
    calls: int
    failed: int
    anomalies: list[Anomaly]

    def problems(self) -> list[str]:
        slow = [f"{seconds:.1f} s until calls succeeded" for seconds in self.recoveries if seconds > MAX_RECOVERY]
        return [f"{self.part}, {self.database}: {each}" for each in (*slow, *self.anomalies)]

    def __str__(self) -> str:
        row = f"{self.part:<11} {self.database:<11} {len(self.recoveries):>5} {_spread(self.recoveries)}"
        row += f" {self.calls:>8,} {self.failed:>7,} {len(self.anomalies):>9}"
        return f"{row}   {_spread(self.replaced)}" if self.replaced else row


_SPREAD = f"{'median':>7} {'p90':>6} {'max':>6}"
HEADING = (
    f"{'killed':<11} {'database':<11} {'kills':>5} {_SPREAD} {'calls':>8} {'failed':>7} {'anomalies':>9}"
    f"   {_SPREAD}\n{'':<29} recovery (s){'':<37} replaced or gone (s)"
)


def _spread(values: Sequence[float]) -> str:
    ordered = sorted(values)
    return f"{median(ordered):>7.2f} {ordered[int(0.9 * (len(ordered) - 1))]:>6.2f} {ordered[-1]:>6.2f}"


async def succeeded(address: str) -> None:
    """Create a task over new connections until it succeeds once."""
    request = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="Recovered"))
    while True:
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub: Any = tasks_pb2_grpc.TaskServiceStub(channel)
            try:
                await stub.CreateTask(request, metadata=[("x-user-id", "probe")], timeout=TIMEOUT)
                return
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)


async def _kills(target: Target, address: str, part: str, kills: int, seed: int) -> tuple[History, list[float]]:
    """Kill a part several times under load. Returns the history of all calls, and the times to recovery."""
    history = History(seed)
    workload = Workload(address, Load(operations=10**9, users=4, workers=4, rate=RATE), seed=seed, history=history)
    recoveries = []
    try:
        running = asyncio.create_task(workload.run())
        for _ in range(kills):
            await _successes(history, running)
            away = part != DATABASE
            record = FaultRecord(part, monotonic(), float("inf"), server_away=away)
            history.faults.append(record)
            since = await KILLS[part](target)
            await succeeded(address)
            record.end = monotonic()
            recoveries.append(record.end - since)
            await target.settled()
            record.end = monotonic()
        await _successes(history, running)
        workload.stop()
        await running
        await workload.read_everything()
    finally:
        await workload.close()
    return history, recoveries


async def _successes(history: History, running: asyncio.Task[None]) -> None:
    """Wait until some more calls have succeeded, of all connections."""
    before = len(history.calls)
    await eventually(lambda: running.done() or sum(call.code == "OK" for call in history.calls[before:]) >= BETWEEN)


def killed(part: str, database: str, kills: int, postgres: str = "") -> Result:
    """Kill a part of a system several times under load."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="taskwell-kills-")))
        url = f"sqlite:///{folder / 'taskwell.db'}"
        if database == POSTGRESQL:
            url = running.enter_context(fresh_database(postgres))
        workers = WORKERS if part in {WORKER, SUPERVISOR} else 1
        server = ServerProcess(
            folder, url, settings={"WORKERS": str(workers), "LOG_LEVEL": "info", "LOG_FORMAT": "json"}
        )
        running.callback(server.kill)
        server.start()
        data = Path(str(conninfo_to_dict(postgres)["host"])) if part == DATABASE else None
        target = Target(server, data)
        history, recoveries = uvloop.run(_kills(target, server.address, part, kills, SEED))
    failed = sum(call.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"} for call in history.calls)
    return Result(part, database, recoveries, target.replaced, len(history.calls), failed, check(history))


def main() -> None:
    configure_log("error", "auto")
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    problems = []
    print(HEADING, flush=True)
    with running_postgres() as postgres:
        for (part, database), share in SHARES.items():
            result = killed(part, database, max(1, share * kills // 100), postgres)
            print(result, flush=True)
            problems += result.problems()
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
