"""GET of a task over REST, beside the replaced server and beside the same call over gRPC."""

import json
from urllib.request import Request, urlopen

from bench.calls import GET
from bench.contenders import EVERY, ONE_WORKER, REPLACED, Contender, Running, taskwell
from bench.database import READER, task_id
from bench.load import LoadFailed, Pressure, h2load, pressure
from bench.measure import Run, Target, targets
from bench.results import Figure, Results
from bench.scenarios.methods import IN_FLIGHT, best_connections, figure_over_http

NAME = "rest"
REST = Contender(
    "taskwell-rest",
    "Taskwell, 1 worker, REST",
    taskwell(1, "--rest-address=127.0.0.1:0"),
    EVERY,
    listening="REST",
)
_PATH = f"/v1/tasks/{task_id(1)}"
_CALLER = ("-H", f"x-user-id: {READER}")


def measure(run: Run, results: Results) -> None:
    """Measure REST and gRPC at 64 in flight, the replaced server at its best number of connections."""
    with targets(run, results, (REST, ONE_WORKER, REPLACED), spends=False) as found:
        best = best_connections(run, results, found)
        for each in found:
            _figure(each, best, run.warm_up)
        for each in run.turns(found):
            name = f"{REPLACED.name}-best" if each.contender is REPLACED else each.contender.name
            results.add(NAME, name, GET.method, _figure(each, best, run.seconds))


def _figure(found: Target, best: int, seconds: float) -> Figure:
    if found.contender is REST:
        return _over_rest(found, seconds)
    if found.contender is REPLACED:
        return figure_over_http(found, GET.method, best, seconds)
    return found.load(GET, pressure(IN_FLIGHT), seconds)[1]


def _over_rest(found: Target, seconds: float) -> Figure:
    """Measure 64 HTTP/1.1 connections with a request each. Raises LoadFailed if a response was not the task."""
    url = f"http://{found.server.address}{_PATH}"
    size = _answer_size(found.server)
    with found.accounted() as used:
        load = h2load(url, Pressure(IN_FLIGHT, 1), seconds, "--h1", *_CALLER)
    if load.failed or load.bytes < load.requests * size:
        raise LoadFailed(f"{REST.label}: {load.failed} of {load.requests} failed, {load.bytes} bytes")
    return found.figure(load, used)


def _answer_size(server: Running) -> int:
    with urlopen(Request(f"http://{server.address}{_PATH}", headers={"x-user-id": READER}), timeout=20) as answer:
        body: bytes = answer.read()
    assert json.loads(body)["id"] == task_id(1)
    return len(body)
