"""One measurement: a call at a pressure to a server, with a warm-up before and a check of the effects after it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from bench.calls import CREATE, GET, Call, answer_size, write_bodies
from bench.contenders import Contender, Running, running
from bench.database import Postgres, fill, make_tables, query
from bench.load import Load, LoadFailed, Pressure, Unavailable, generate, h2load_grpc
from bench.machine import cpu_seconds, peak_memory
from bench.results import Figure, Results

T = TypeVar("T")

_SPENT_RATE = 8_000  # 1/s; the most tasks that are completed or deleted: when all are, the measurement ends early
_STRAGGLERS = 0.2  # s; the time that calls which h2load abandoned at its end still run in the server


@dataclass(frozen=True, slots=True)
class Run:
    """Parameters that all measurements of a run share; times in seconds."""

    postgres: Postgres
    folder: Path
    """Holds the encoded requests."""
    rounds: int
    seconds: float
    warm_up: float
    quick: bool

    @property
    def spent(self) -> int:
        """The number of tasks to complete, and to delete, for each start of a server."""
        return round(_SPENT_RATE * (self.seconds * self.rounds + self.warm_up))

    def turns(self, contenders: Sequence[T]) -> Iterator[T]:
        """Iterate over the contenders once a round, in alternating order."""
        for number in range(self.rounds):
            yield from reversed(contenders) if number % 2 else contenders


@dataclass
class Target:
    """A running contender on a filled database."""

    run: Run
    contender: Contender
    server: Running
    database: str
    spent: int

    @contextmanager
    def accounted(self) -> Iterator[list[float]]:
        """Yield a list to which the end of the block adds the CPU time (s) of server and database."""
        before = cpu_seconds(self.server.pid), self.run.postgres.cpu_seconds()
        used: list[float] = []
        yield used
        used += [cpu_seconds(self.server.pid) - before[0], self.run.postgres.cpu_seconds() - before[1]]

    def figure(self, load: Load, used: list[float]) -> Figure:
        cpu, database_cpu = (seconds / load.requests * 1e6 if load.requests else 0.0 for seconds in used)
        return Figure(load.rate, cpu, database_cpu, peak_memory(self.server.pid), load.p50, load.p99)

    @cached_property
    def _spent_so_far(self) -> dict[str, int]:
        return {}

    def bodies(self, call: Call, seconds: float) -> tuple[Path, int]:
        """Write a file of requests. Returns it and their number.

        A call that spends its tasks gets the next ones, enough for the time; a call with equal requests gets one.
        """
        path = self.run.folder / f"{self.contender.name}-{call.method}"
        first, last = 0, None
        if call.spends:
            first = self._spent_so_far.get(call.method, 0)
            last = min(self.spent, first + round(_SPENT_RATE * seconds))
            self._spent_so_far[call.method] = last
        elif not call.varies:
            last = 1
        count = write_bodies(call, path, self.spent, first, last)
        if not count:
            raise LoadFailed(f"{call.method}: no task is left")
        return path, count

    def load(self, call: Call, pressure: Pressure, seconds: float, *, own: bool = False) -> tuple[Load, Figure]:
        """Run a closed loop with h2load, or with our own generator if `own` or if the requests must differ.

        Raises LoadFailed unless every call succeeded and had its effect.
        """
        bodies, count = self.bodies(call, seconds)
        size = answer_size(self.server.address, call)
        before = self.effect(call)
        to = (self.server.address, call.path, call.user, bodies, pressure, seconds)
        own |= call.varies
        with self.accounted() as used:
            load = generate(*to, requests=count if call.spends else 0) if own else h2load_grpc(*to)
        if not own:
            time.sleep(_STRAGGLERS)
            if not call.effect and load.bytes < load.requests * size:
                raise LoadFailed(f"{call.method}: {load.requests} responses of {size} bytes had {load.bytes} in total")
        self.check(call, load, before, pressure)
        return load, self.figure(load, used)

    def effect(self, call: Call) -> int:
        """The number of effects of these calls so far; 0 if they have none."""
        return int(query(self.database, call.effect)[0]) if call.effect and self.contender.stores else 0

    def check(self, call: Call, load: Load, before: int, pressure: Pressure) -> None:
        """Raise LoadFailed unless all calls succeeded, all had their effect, and the server still answers."""
        name = f"{self.contender.label}, {call.method}"
        if load.failed or not load.requests:
            raise LoadFailed(f"{name}: {load.failed} calls failed of {load.requests}: {load.statuses} {load.cause}")
        if call.effect and self.contender.stores:
            done = self.effect(call) - before
            # Effects without a response are of calls in flight when h2load stopped.
            if not load.requests <= done <= load.requests + pressure.in_flight:
                raise LoadFailed(f"{name}: {load.requests} calls succeeded, {done} had an effect")
        answer_size(self.server.address, GET)


@contextmanager
def targets(
    run: Run, results: Results, contenders: Sequence[Contender], *, spends: bool = True
) -> Iterator[list[Target]]:
    """Start all contenders that are available, so that measurements can take turns. An idle server costs nothing."""
    with ExitStack() as stack:
        found = []
        for contender in contenders:
            try:
                found.append(stack.enter_context(target(run, contender, spends=spends)))
            except Unavailable as missing:
                results.leave_out(f"{contender.label}: {missing}")
        yield found


@contextmanager
def target(run: Run, contender: Contender, *, spends: bool = True) -> Iterator[Target]:
    """Start a contender on a new database with the benchmark's tasks. Raises Unavailable."""
    spent = run.spent if spends and set(contender.methods) - {GET.method, CREATE.method} else 0
    with run.postgres.fresh() as database:
        if contender.stores:
            make_tables(database)
            fill(database, spent)
        with running(contender, database) as server:
            yield Target(run, contender, server, database, spent)
