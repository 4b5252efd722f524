"""Steady load of all methods over gRPC and REST: the memory and the descriptors of the server must not grow.

    python -m tests.soak.steady_load [MINUTES [RATE]]      (60, at half of the rate that the servers reach)

Two servers with one worker each, on SQLite and on PostgreSQL, get the same load. Tasks are created, read, listed,
updated, completed and deleted, so that the database does not grow. Every 50th task uses new connections. The first
quarter of the time is the warm-up; growth is the difference between the medians of the first and the last fifth of the
rest.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median
from typing import IO

import psycopg

from service.log import configure_log
from tests.postgres import fresh_database, running_postgres
from tests.server.starting import serving
from tests.soak.task_lives import MAX_IN_FLIGHT, Load

SAMPLES = 240
WARM_UP = 0.25
"""Part of the time before growth counts."""
_CALIBRATION = 10.0  # s

# Runs in the server: counts asyncio's tasks, which no other process can see.
_PROBE = """
import asyncio, gc, os, threading, time

def count():
    while True:
        time.sleep({interval})
        tasks = sum(type(each) is asyncio.Task for each in gc.get_objects())
        with open("tasks.new", "w") as file:
            file.write(str(tasks))
        os.replace("tasks.new", "tasks")

threading.Thread(target=count, daemon=True).start()
"""


@dataclass(frozen=True)
class Sample:
    """What a server process uses."""

    rss: float
    """Resident memory (MiB)."""
    descriptors: float
    threads: float
    tasks: float
    """Tasks of asyncio."""
    connections: float
    """Connections to PostgreSQL."""


LIMITS = Sample(rss=5.0, descriptors=20, threads=3, tasks=200, connections=5)
"""Growth after the warm-up that is not a leak. Calls in flight, whose number varies, have tasks and connections."""


class Server:
    """A running server, its load, and its samples."""

    def __init__(self, name: str, url: str, folder: Path, pid: int, load: Load) -> None:
        self.name = name
        self.load = load
        self.samples: list[Sample] = []
        self._url = url if name == "PostgreSQL" else ""
        self._folder = folder
        self._process = Path("/proc", str(pid))

    def sample(self) -> Sample:
        lines = (line.split(":") for line in (self._process / "status").read_text().splitlines())
        status = {name: value.split()[0] for name, value in lines if value.strip()}
        tasks = self._folder / "tasks"
        taken = Sample(
            rss=int(status["VmRSS"]) / 1024,
            descriptors=len(list((self._process / "fd").iterdir())),
            threads=int(status["Threads"]),
            tasks=int(tasks.read_text()) if tasks.exists() else 0,
            connections=_connections(self._url) if self._url else 0,
        )
        self.samples.append(taken)
        return taken

    def growth(self) -> Sample:
        """Growth after the warm-up."""
        settled = self.samples[int(len(self.samples) * WARM_UP) :]
        part = max(1, len(settled) // 5)
        early, late = _medians(settled[:part]), _medians(settled[-part:])
        return Sample(*(after - before for before, after in zip(astuple(early), astuple(late), strict=True)))

    def leaks(self) -> list[str]:
        """The resources that grew by more than their limit."""
        grown = zip(fields(Sample), astuple(self.growth()), astuple(LIMITS), strict=True)
        return [f"{each.name} grew by {growth:.1f}" for each, growth, limit in grown if growth > limit]


def _medians(samples: Sequence[Sample]) -> Sample:
    return Sample(*(median(values) for values in zip(*map(astuple, samples), strict=True)))


def _connections(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchone()
    assert row
    return int(row[0])


@contextmanager
def running(name: str, url: str, folder: Path, interval: float, log: IO[str]) -> Iterator[Server]:
    """Run a server with one worker, and the probe in it."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_PROBE.format(interval=interval))
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    arguments = [
        "--workers",
        "1",
        "--log-level",
        "warning",
        "--migrate",
        "--database-url",
        url,
        "--rest-address",
        "127.0.0.1:0",
    ]
    with serving(folder, arguments, log=log, PYTHONPATH=path) as server:
        assert server.process.stdout
        rest = server.process.stdout.readline().split()[-1]
        yield Server(name, url, folder, server.process.pid, Load(server.address, rest))
        assert server.end() == 0


async def reached(servers: Sequence[Server]) -> float:
    """The rate of each server (calls/s) when all of them get as many calls as they can take.

    It also makes the servers use as much memory as the most calls in flight need, before growth counts.
    """
    started = time.monotonic()
    until = started + _CALIBRATION
    done = await asyncio.gather(*(each.load.run_at_once(MAX_IN_FLIGHT, until) for each in servers))
    return min(done) / (time.monotonic() - started)


async def soak(servers: Sequence[Server], seconds: float, rate: float, interval: float) -> None:
    """Put load on the servers at this rate (calls/s) and take samples."""
    until = time.monotonic() + seconds
    loads = [asyncio.create_task(each.load.run(rate, until)) for each in servers]
    print(f"{'minute':>8} {'server':<12}" + "".join(f"{each.name:>13}" for each in fields(Sample)), flush=True)
    started = time.monotonic()
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(interval, left))
        for each in servers:
            taken = await asyncio.to_thread(each.sample)
            if len(each.samples) % (SAMPLES // 24) == 0:
                print(f"{(time.monotonic() - started) / 60:8.1f} {_row(each.name, taken)}", flush=True)
    await asyncio.gather(*loads)


def _row(name: str, sample: Sample) -> str:
    return f"{name:<12}" + "".join(f"{value:>13.1f}" for value in astuple(sample))


async def judged(servers: Sequence[Server], seconds: float, rate: float | None) -> list[str]:
    """Run the soak; print the growth and return what is wrong."""
    interval = seconds / SAMPLES
    most = await reached(servers)
    rate = rate or most / 2
    print(f"{seconds / 60:g} minutes, {rate:.0f} calls/s on each server", flush=True)
    try:
        await soak(servers, seconds, rate, interval)
        wrong = []
        for each in servers:
            print(f"{'growth':>8} {_row(each.name, each.growth())}")
            print(f"{'calls':>8} {each.name:<12} {dict(each.load.outcomes)}", flush=True)
            wrong += [f"{each.name}: {leak}" for leak in each.leaks()]
            wrong += [f"{each.name}: {failure}" for failure in each.load.failures()]
            wrong += [f"{each.name}: {left} tasks left"] if (left := await each.load.tasks_left()) else []
    finally:
        for each in servers:
            await each.load.close()
    return wrong


def run(seconds: float, rate: float | None = None) -> list[str]:
    """Run the soak on both databases. Returns what is wrong."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder)
        log = stack.enter_context((place / "log").open("w"))
        postgres = stack.enter_context(running_postgres())
        databases = {
            "SQLite": f"sqlite:///{folder}/taskwell.db",
            "PostgreSQL": stack.enter_context(fresh_database(postgres)),
        }
        servers = [
            stack.enter_context(running(name, url, place / name, seconds / SAMPLES, log))
            for name, url in databases.items()
        ]
        wrong = asyncio.run(judged(servers, seconds, rate))
        return wrong + [f"logged: {line}" for line in (place / "log").read_text().splitlines()[:20]]


def main() -> None:
    configure_log("error", "auto")
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    rate = float(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2] else None
    if wrong := run(minutes * 60, rate):
        sys.exit("\n".join(wrong))
    print("no resource grew, and no call failed")


if __name__ == "__main__":
    main()
