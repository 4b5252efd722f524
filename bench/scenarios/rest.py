"""GET of one task over REST, beside the server that Taskwell replaces, and beside the same call over gRPC."""

import json
from urllib.request import Request, urlopen

from bench.calls import GET
from bench.contenders import EVERY, ONE_WORKER, REPLACED, Contender, Running, taskwell
from bench.database import READER, task_id
from bench.load import LoadFailed, Pressure, Unavailable, h2load, pressure
from bench.measure import Figure, Run, Target, target
from bench.results import Results
from bench.scenarios.methods import IN_FLIGHT, best_connections, over_http

NAME = "rest"
DOOR = Contender(
    "taskwell-rest",
    "Taskwell, 1 worker, REST",
    taskwell(1, "--rest-address=127.0.0.1:0"),
    EVERY,
    listening="REST",
)
_PATH = f"/v1/tasks/{task_id(1)}"
_CALLER = ("-H", f"x-user-id: {READER}")


def measure(run: Run, results: Results) -> None:
    """Both doors at 64 in flight, the other server at its best number of connections, in turns."""
    best = best_connections(run, results)
    for _ in range(run.rounds):
        try:
            with target(run, DOOR, spends=False) as found:
                results.add(NAME, DOOR.name, GET.method, _over_rest(found))
            with target(run, ONE_WORKER, spends=False) as found:
                results.add(NAME, ONE_WORKER.name, GET.method, found.measure(GET, pressure(IN_FLIGHT)))
            if best:
                with target(run, REPLACED) as found:
                    over_http(found, GET.method, best, run.warm_up)
                    with found.accounted() as used:
                        load = over_http(found, GET.method, best, run.seconds)
                    results.add(NAME, f"{REPLACED.name}-best", GET.method, found.figure(load, used))
        except Unavailable as missing:
            results.leave_out(f"{NAME}: {missing}")


def _over_rest(found: Target) -> Figure:
    """64 HTTP/1.1 connections, a request at a time on each. Raises LoadFailed if an answer was not the task."""
    run, url, under = found.run, f"http://{found.server.address}{_PATH}", Pressure(IN_FLIGHT, 1)
    size = _answer_size(found.server)
    h2load(url, under, run.warm_up, "--h1", *_CALLER)
    with found.accounted() as used:
        load = h2load(url, under, run.seconds, "--h1", *_CALLER)
    if load.failed or load.bytes < load.requests * size:
        raise LoadFailed(f"{DOOR.label}: {load.failed} of {load.requests} failed, {load.bytes} bytes")
    return found.figure(load, used)


def _answer_size(server: Running) -> int:
    with urlopen(Request(f"http://{server.address}{_PATH}", headers={"x-user-id": READER}), timeout=20) as answer:
        body: bytes = answer.read()
    assert json.loads(body)["id"] == task_id(1)
    return len(body)
