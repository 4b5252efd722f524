"""The Python client beside the generated stub it wraps: calls in turn, on one server."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from typing import Any

import grpc
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc
from taskwell_client import connect, connect_async

from bench.contenders import ONE_WORKER
from bench.database import READER, task_id
from bench.measure import Run, target
from bench.results import Figure, Results

NAME = "client"
STUB, WRAPPED = "bare stub", "taskwell-client"
KINDS = ("sync", "asyncio")
_TIMEOUT = 10  # s
_METADATA = (("x-user-id", READER),)

Times = tuple[list[int], list[int]]
"""The durations (ns) of the calls of the stub, and of the client."""


def measure(run: Run, results: Results) -> None:
    """Measure the median time of GetTask with one call in flight, for the sync and the asyncio client."""
    with target(run, ONE_WORKER, spends=False) as found:
        for _ in range(run.rounds):
            address = found.server.address
            for kind, times in (("sync", _sync(address, run)), ("asyncio", asyncio.run(_asyncio(address, run)))):
                for name, taken in zip((STUB, WRAPPED), times, strict=True):
                    results.add(NAME, name, f"GetTask, {kind}", _figure(taken))


def _sync(address: str, run: Run) -> Times:
    with grpc.insecure_channel(address) as channel, connect(address, user=READER) as client:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        calls = (lambda: _bare(stub), lambda: client.get(task_id(1)))
        times: Times = ([], [])
        for which in _turns(run):
            begin = time.perf_counter_ns()
            calls[which]()
            times[which].append(time.perf_counter_ns() - begin)
    return times


async def _asyncio(address: str, run: Run) -> Times:
    async with grpc.aio.insecure_channel(address) as channel, connect_async(address, user=READER) as client:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        calls = (lambda: _bare(stub), lambda: client.get(task_id(1)))
        times: Times = ([], [])
        for which in _turns(run):
            begin = time.perf_counter_ns()
            await calls[which]()
            times[which].append(time.perf_counter_ns() - begin)
    return times


def _bare(stub: Any) -> Any:  # noqa: ANN401 - of either kind
    return stub.GetTask(tasks_pb2.GetTaskRequest(id=task_id(1)), metadata=_METADATA, timeout=_TIMEOUT)


def _turns(run: Run) -> Iterator[int]:
    """Iterate over stub and client in alternating order until the time is over."""
    ends = time.monotonic() + run.warm_up + run.seconds
    while time.monotonic() < ends:
        yield from (0, 1, 1, 0)


def _figure(taken: list[int]) -> Figure:
    """The durations without the first tenth, which is the warm-up."""
    taken = taken[len(taken) // 10 :]
    quantiles = statistics.quantiles(taken, n=100)
    return Figure(1e9 / statistics.mean(taken), 0.0, 0.0, 0.0, quantiles[49] / 1000, quantiles[98] / 1000)
