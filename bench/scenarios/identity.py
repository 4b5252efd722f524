"""Tokens beside metadata, and the effect of one caller's flood on another caller."""

import secrets
import threading
import time
from collections.abc import Sequence

import grpc
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from bench.calls import GET, frame, write_bodies
from bench.contenders import EVERY, ONE_WORKER, Contender, taskwell
from bench.database import READER, task_id
from bench.load import Load, LoadFailed, Pressure, generate, h2load, pressure
from bench.measure import Run, Target, targets
from bench.results import Figure, Results
from bench.scenarios.methods import IN_FLIGHT
from service.auth.claims import Expected
from service.auth.dev_tokens import mint_token

TOKENS, FLOOD = "identity", "flood"
_SECRET, _EXPECTED = secrets.token_hex(16), Expected("https://issuer.example", "taskwell")
_JWT = taskwell(
    1,
    "--auth=jwt",
    f"--jwt-secret={_SECRET}",
    f"--jwt-issuer={_EXPECTED.issuer}",
    f"--jwt-audience={_EXPECTED.audience}",
)
WITH_TOKENS = Contender("taskwell-jwt", "Taskwell, 1 worker, tokens", _JWT, EVERY)
LIMITED = Contender("taskwell-limited", "Taskwell, 100 calls/s a user", taskwell(1, "--rate-limit=100"), EVERY)

_QUIET_RATE = 50  # 1/s; the rate of the other caller, below the limit
_FLOOD_LASTS = 6.0  # s, at least: with fewer calls the p99 would be the slowest call
_HEAD_START = 1.0  # s, in which the flood connects and uses up its burst
_FLOODS = {"64 in flight": 0.0, "1,000 calls/s": 1000.0}
"""The load of the flooding caller: calls in flight, or calls per second."""


def tokens(run: Run, results: Results) -> None:
    """Measure GetTask with 64 in flight, with metadata and with a token that the server has verified before."""
    token = mint_token(_SECRET, _EXPECTED, READER, "", int(time.time()), 86_400)
    callers = {ONE_WORKER: ("x-user-id", READER), WITH_TOKENS: ("authorization", f"Bearer {token}")}
    with targets(run, results, (ONE_WORKER, WITH_TOKENS), spends=False) as found:
        for each in found:
            _figure(each, callers[each.contender], run.warm_up)
        for each in run.turns(found):
            results.add(TOKENS, each.contender.name, GET.method, _figure(each, callers[each.contender], run.seconds))


def _figure(found: Target, caller: tuple[str, str], seconds: float) -> Figure:
    run, under = found.run, pressure(IN_FLIGHT)
    bodies = run.folder / "get"
    write_bodies(GET, bodies, 0, 0, 1)
    size = _answer_size(found.server.address, caller)
    options = _options(("content-type", "application/grpc"), ("te", "trailers"), caller)
    url = f"http://{found.server.address}{GET.path}"
    with found.accounted() as used:
        load = h2load(url, under, seconds, *options, body=bodies)
    # gRPC errors have HTTP status 200 as well: the bytes show that the calls succeeded.
    if load.failed or load.bytes < load.requests * size:
        raise LoadFailed(f"{found.contender.label}: {load.failed} of {load.requests} failed, {load.bytes} bytes")
    return found.figure(load, used)


def _options(*headers: tuple[str, str]) -> Sequence[str]:
    return [option for name, value in headers for option in ("-H", f"{name}: {value}")]


def _answer_size(address: str, caller: tuple[str, str]) -> int:
    with grpc.insecure_channel(address) as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        answer = stub.GetTask(tasks_pb2.GetTaskRequest(id=task_id(1)), metadata=(caller,), timeout=20)
    return len(frame(answer))


def flood(run: Run, results: Results) -> None:
    """Measure the p99 of a caller with 50 calls a second while another caller floods the server."""
    with targets(run, results, (ONE_WORKER, LIMITED), spends=False) as found:
        for each in run.turns(found):
            contender = each.contender
            results.add(FLOOD, contender.name, "alone", each.figure(_quiet(each), [0.0, 0.0]))
            for name, rate in _FLOODS.items():
                results.add(FLOOD, contender.name, f"beside {name}", each.figure(_beside(each, rate), [0.0, 0.0]))
    for contender in (ONE_WORKER, LIMITED):
        for name in _FLOODS:
            ratio = results.ratio((FLOOD, contender.name, f"beside {name}"), (FLOOD, contender.name, "alone"), "p99")
            results.numbers[FLOOD, f"{contender.label}, p99 beside {name} to alone"] = ratio or 0.0


def _quiet(found: Target) -> Load:
    bodies = found.run.folder / "quiet"
    write_bodies(GET, bodies, 0)
    seconds = _lasting(found.run)
    load = generate(found.server.address, GET.path, READER, bodies, Pressure(1, 8), seconds, rate=_QUIET_RATE)
    if load.failed:
        raise LoadFailed(f"flood: {load.failed} calls of the other caller failed: {load.statuses} {load.cause}")
    return load


def _lasting(run: Run) -> float:
    return run.seconds if run.quick else max(run.seconds, _FLOOD_LASTS)


def _beside(found: Target, rate: float) -> Load:
    """The same during a flood by a user without tasks, which begins earlier and ends later."""
    bodies = found.run.folder / "flood"
    write_bodies(GET, bodies, 0)
    seconds = _HEAD_START + _lasting(found.run) + 1
    to = (found.server.address, GET.path, "flooder", bodies, pressure(IN_FLIGHT), seconds)
    flooding = threading.Thread(target=lambda: generate(*to, rate=rate))
    flooding.start()
    time.sleep(_HEAD_START)
    try:
        return _quiet(found)
    finally:
        flooding.join()
