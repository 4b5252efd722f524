"""Runs a workload against a system while faults are injected, and collects the figures of several such rounds."""

import asyncio
import random
import threading
import time
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.faults.anomalies import Anomaly
from tests.faults.checker import check
from tests.faults.fault import Fault
from tests.faults.history import FaultRecord, History, Sample
from tests.faults.statuses import recoveries
from tests.faults.system import System
from tests.faults.workload import Load, Workload

MAX_CALL_SECONDS = 5
SETTINGS = {"MAX_CALL_SECONDS": str(MAX_CALL_SECONDS)}
"""Settings of the servers under test: a call that hangs is seen soon."""

CALLS_BETWEEN = 1000
"""Calls that are to succeed between two faults, on average."""
_QUIET = 1.0
"""Time after the last fault before everything is read (s)."""
_SAMPLES_PER_SECOND = 5


@dataclass
class Seen:
    """What callers saw of one kind of fault."""

    times: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    """Status codes of the calls that were in flight during the fault."""
    recoveries: list[float] = field(default_factory=list)


@dataclass
class Result:
    """Figures of one or several rounds."""

    calls: int = 0
    seconds: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, Seen] = field(default_factory=dict)
    first_resident: int = 0
    peak_resident: int = 0
    longest_health_check: float = 0.0
    anomalies: list[Anomaly] = field(default_factory=list)

    def add(self, history: History, seconds: float) -> None:
        """Add a round."""
        self.calls += len(history.calls)
        self.seconds += seconds
        self.codes.update(call.code for call in history.calls)
        self._add_faults(history)
        if history.samples:
            residents = [sample.resident for sample in history.samples]
            self.first_resident = self.first_resident or residents[0]
            self.peak_resident = max(self.peak_resident, *residents)
            longest = max(sample.health_seconds for sample in history.samples)
            self.longest_health_check = max(self.longest_health_check, longest)
        self.anomalies += check(history)

    @property
    def injected(self) -> int:
        """The number of faults."""
        return sum(seen.times for seen in self.faults.values())

    def _add_faults(self, history: History) -> None:
        ended = sorted(history.calls, key=lambda call: call.end)
        ends = [call.end for call in ended]
        for fault in history.faults:
            seen = self.faults.setdefault(fault.name, Seen())
            seen.times += 1
            # A call that began during the fault may end long after it, at its deadline.
            last = bisect(ends, fault.end + history.max_call_seconds)
            seen.codes.update(call.code for call in ended[bisect(ends, fault.start) : last] if call.start <= fault.end)
        for fault, seconds in recoveries(history):
            self.faults[fault.name].recoveries.append(seconds)


def run_round(
    system: System, load: Load, faults: Sequence[Fault], *, seed: int, calls_between: int = CALLS_BETWEEN
) -> tuple[History, float]:
    """Run the workload once, with these faults one after the other and again, until it is over."""
    return uvloop.run(_round(system, load, faults, seed, calls_between))


async def _round(
    system: System, load: Load, faults: Sequence[Fault], seed: int, calls_between: int
) -> tuple[History, float]:
    history = History(seed, max_call_seconds=MAX_CALL_SECONDS)
    workload = Workload(system.server.address, load, seed=seed, history=history)
    begun = time.monotonic()
    try:
        with sampled(system, history):
            running = asyncio.create_task(workload.run())
            if faults:
                await _inject(system, plan(faults, random.Random(seed), calls_between), history, running)
            await running
            await asyncio.sleep(_QUIET if faults else 0)
            await workload.read_everything()
    finally:
        await workload.close()
    return history, time.monotonic() - begun


def plan(faults: Sequence[Fault], chance: random.Random, calls_between: int) -> Iterator[tuple[int, Fault]]:
    """The faults in random order, each as often as the others, and the number of successful calls before each."""
    while True:
        for fault in chance.sample(faults, len(faults)):
            yield chance.randint(0, 2 * calls_between), fault


async def _inject(
    system: System, planned: Iterator[tuple[int, Fault]], history: History, workload: asyncio.Task[None]
) -> None:
    """Inject one fault after the other until the workload is over."""
    for calls_before, fault in planned:
        await _successes(history, calls_before, workload)
        if workload.done():
            return
        begun, ends = time.monotonic(), float("inf")
        record = FaultRecord(
            fault.name, begun, ends, fault.server_away, fault.recovers_within, memory_short=fault.memory_short
        )
        history.faults.append(record)
        injected = fault.inject(system)
        await asyncio.to_thread(injected.__enter__)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(injected.__exit__, None, None, None)
        record.end = time.monotonic()
        await _recovered(history, record, workload)


async def _successes(history: History, calls: int, workload: asyncio.Task[None]) -> None:
    """Wait until so many more calls have succeeded, or the workload is over."""
    looked = len(history.calls)
    while calls > 0 and not workload.done():
        await asyncio.sleep(0.02)
        new, looked = history.calls[looked:], len(history.calls)
        calls -= sum(call.code == "OK" for call in new)


async def _recovered(history: History, record: FaultRecord, workload: asyncio.Task[None]) -> None:
    """Wait until a call that began after the fault has succeeded, or until it had to."""
    looked = len(history.calls)
    while time.monotonic() < record.end + record.recovers_within and not workload.done():
        await asyncio.sleep(0.02)
        new, looked = history.calls[looked:], len(history.calls)
        if any(call.code == "OK" and call.start >= record.end for call in new):
            return


@contextmanager
def sampled(system: System, history: History) -> Iterator[None]:
    """Take samples of the server beside the workload, in a thread of their own."""
    over = threading.Event()

    def sample() -> None:
        with grpc.insecure_channel(system.server.address, [("grpc.max_reconnect_backoff_ms", 200)]) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            while not over.wait(1 / _SAMPLES_PER_SECOND):
                begun = time.monotonic()
                with suppress(grpc.RpcError):
                    health.Check(health_pb2.HealthCheckRequest(), timeout=10)
                took = time.monotonic() - begun
                with suppress(OSError, AssertionError, IndexError):
                    history.samples.append(Sample(begun, _resident(system.server.pid), took))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _resident(pid: int) -> int:
    """Resident memory of a process (bytes)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096
