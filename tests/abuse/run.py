"""Every attack with an honest client beside it: `make abuse`.

    python -m tests.abuse.run [--seconds 4] [ATTACK ...]

Each attack meets a server of its own, with the default settings and one worker, on loopback. Prints a table: the share
of the honest client's calls that succeeded within 5 s, the 99th percentile of their duration, the slowest health check,
and how far the server's memory rose. Exits with 1 if an honest client fell below its goal.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from tests.abuse.attacks import REST, titles
from tests.abuse.load import percentile
from tests.postgres import fresh_database, running_postgres

GOAL = 0.999
"""Share of honest calls that succeed beside an attack."""
MEMORY_GOAL = 150
"""Most memory that an attack may take (MiB), except the one that SECURITY.md names."""
REMAINS = frozenset({"hpack-bomb"})
OVERLOAD = 10
"""Times the peak."""
OVERLOADS = {
    "overload": (16, 5.0),
    "overload-64-connections": (64, 5.0),
    "overload-128-connections": (128, 5.0),
    "overload-short-deadlines": (64, 0.5),
}
"""Connections, and the deadline of each call (s)."""
GOODPUT_GOAL = {"overload-short-deadlines": 0.0}
"""Least goodput, relative to the peak, where it is not 0.9."""

_TIMEOUT = 5.0
_PAUSE = 0.01


@dataclass
class Honest:
    """A client that makes one call after the other, and health checks beside them."""

    ends: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)

    @property
    def success(self) -> float:
        return self.ends["OK"] / max(1, self.ends.total())

    @contextmanager
    def beside(self, target: "Server") -> Iterator[None]:
        over = threading.Event()
        threads = [
            threading.Thread(target=each, args=(target, over)) for each in (self._call, self._check, self._probe)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _call(self, target: "Server", over: threading.Event) -> None:
        with grpc.insecure_channel(target.address) as channel:
            stub = tasks_pb2_grpc.TaskServiceStub(channel)
            options: Any = {"metadata": [("x-user-id", "honest")], "timeout": _TIMEOUT}
            while not over.is_set():
                self._timed(lambda: stub.CreateTask(_CREATE, **options))
                self._timed(lambda: stub.ListTasks(tasks_pb2.ListTasksRequest(page_size=5), **options))
                over.wait(_PAUSE)

    def _check(self, target: "Server", over: threading.Event) -> None:
        with grpc.insecure_channel(target.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            while not over.wait(0.1):
                started = time.monotonic()
                with suppress(grpc.RpcError):
                    stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT)
                self.health.append(time.monotonic() - started)

    def _probe(self, target: "Server", over: threading.Event) -> None:
        while not over.wait(0.1):
            started = time.monotonic()
            with urllib.request.urlopen(f"http://{target.metrics}/readyz", timeout=_TIMEOUT) as response:
                assert response.status == HTTPStatus.OK
            self.probes.append(time.monotonic() - started)

    def _timed(self, call: Any) -> None:
        started = time.monotonic()
        try:
            call()
            self.ends["OK"] += 1
        except grpc.RpcError as error:
            self.ends[error.code().name] += 1
        self.seconds.append(time.monotonic() - started)


_CREATE = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="Buy milk"))


class Server:
    """A process of the service."""

    def __init__(self, database_url: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKWELL_")}
        environment |= {"TASKWELL_DATABASE_URL": database_url, "TASKWELL_GRPC_ADDRESS": "127.0.0.1:0"}
        environment |= {"TASKWELL_REST_ADDRESS": "127.0.0.1:0", "TASKWELL_METRICS_ADDRESS": "127.0.0.1:0"}
        environment |= {"TASKWELL_WORKERS": "1", "TASKWELL_MIGRATE": "true", "TASKWELL_LOG_LEVEL": "error"}
        command = [sys.executable, "-m", "service", "serve"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        assert self.process.stdout
        self.address = self.process.stdout.readline().split()[-1]
        self.rest = next(line for line in self.process.stdout if line.startswith("REST listening")).split()[-1]
        self.metrics = next(line for line in self.process.stdout if line.startswith("metrics listening")).split()[-1]
        self.peak = self.rss()

    def rss(self) -> int:
        """Resident memory (MiB); on Linux only."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") >> 20

    @contextmanager
    def observed(self) -> Iterator[None]:
        """Note the peak of its memory while the block runs."""
        over = threading.Event()

        def observe() -> None:
            while not over.wait(0.02):
                with suppress(OSError):
                    self.peak = max(self.peak, self.rss())

        thread = threading.Thread(target=observe)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()


@contextmanager
def server(database_url: str) -> Iterator[Server]:
    started = Server(database_url)
    try:
        _warm_up(started.address)
        yield started
    finally:
        started.stop()


def _warm_up(address: str) -> None:
    """Create the large pages that some attacks list, and bring the server to the memory that it needs anyway."""
    with grpc.insecure_channel(address) as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        large = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="t", description="é" * 5000))
        for user, request, count in (("honest-pages", large, 150), ("honest", _CREATE, 500)):
            calls = [stub.CreateTask.future(request, metadata=(("x-user-id", user),), timeout=60) for _ in range(count)]
            for call in calls:
                call.result()
        stub.ListTasks(tasks_pb2.ListTasksRequest(page_size=1000), metadata=(("x-user-id", "honest-pages"),))


def program(module: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def attacked(name: str, database_url: str, seconds: float) -> tuple[Sequence[object], bool]:
    """Run an attack beside an honest client. Returns the row of the table, and True if the goals are reached."""
    honest = Honest()
    with server(database_url) as target:
        before = target.rss()
        with target.observed(), honest.beside(target):
            attack = program("tests.abuse.attacks", name, target.rest if name in REST else target.address, seconds)
            output, errors = attack.communicate(timeout=seconds + 120)
        rise = target.peak - before
    reached = honest.success >= GOAL and (rise <= MEMORY_GOAL or name in REMAINS) and not attack.returncode
    sent = output.strip() or errors.strip()[-200:]
    return (name, sent, *_figures(honest), f"{rise:+} MiB"), reached


def overloaded(name: str, database_url: str, seconds: float) -> tuple[Sequence[object], bool]:
    """Offer ten times the peak, beside an honest client that may be refused."""
    honest, (connections, deadline) = Honest(), OVERLOADS[name]
    arguments = ("--seconds", seconds, "--connections")
    with server(database_url) as target:
        peaks = [
            _offered(target.address, *arguments, 4, "--streams", streams, "--seed", streams)["goodput"]
            for streams in (16, 32, 64)
        ]
        before = target.rss()
        with target.observed(), honest.beside(target):
            load = ("--rate", OVERLOAD * max(peaks), "--deadline", deadline, "--seed", "overload")
            result = _offered(target.address, *arguments, connections, *load)
        rise = target.peak - before
    ratio = result["goodput"] / max(peaks)
    text = f"{OVERLOAD} x {max(peaks)}/s: goodput {ratio:.2f} of the peak, refusals' p99 {result['refused_p99']} s"
    print(result, file=sys.stderr)
    return (name, text, *_figures(honest), f"{rise:+} MiB"), ratio >= GOODPUT_GOAL.get(name, 0.9)


def _offered(address: str, *arguments: object) -> dict[str, Any]:
    output, errors = program("tests.abuse.load", address, *arguments).communicate(timeout=300)
    assert output, errors
    result: dict[str, Any] = json.loads(output)
    return result


def _figures(honest: Honest) -> Sequence[str]:
    failed = ", ".join(f"{count} {end}" for end, count in honest.ends.items() if end != "OK")
    return (
        f"{honest.success:.2%} of {honest.ends.total()}" + (f" ({failed})" if failed else ""),
        f"{percentile(honest.seconds, 0.99)} s",
        f"{max(honest.health, default=0):.3f} s",
        f"{max(honest.probes, default=0):.3f} s",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attacks", nargs="*", help="all of them by default")
    parser.add_argument("--seconds", type=float, default=4.0, help="duration of each attack")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    arguments = parser.parse_args()
    names = arguments.attacks or [*(name for name, _ in titles()), *OVERLOADS]
    print("| attack | sent | honest calls that succeeded | p99 | slowest health check | slowest /readyz | memory |")
    print("|---|---|---|---|---|---|---|")
    failed = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(running_postgres(hasty=True)) if arguments.database == "postgresql" else None
        for name in names:
            with ExitStack() as each:
                url = each.enter_context(fresh_database(postgres)) if postgres else f"sqlite:///{folder / name}.db"
                run = (overloaded if name in OVERLOADS else attacked)(name, url, arguments.seconds)
            row, reached = run
            print("|", " | ".join(map(str, row)), "|", flush=True)
            failed += [] if reached else [name]
    if failed:
        sys.exit(f"below the goal: {', '.join(failed)}")


if __name__ == "__main__":
    main()
