"""Measurements of Taskwell alone: statements per call, latency below the peak, 1,000 connections, the generators."""

from bench.calls import CALLS, CREATE, GET, LIST, write_bodies
from bench.contenders import EMPTY, ONE_WORKER
from bench.database import READ
from bench.load import LoadFailed, Pressure, Unavailable, generate, pressure
from bench.measure import Run, target, targets
from bench.results import Results
from bench.scenarios.methods import IN_FLIGHT

_PART_OF_PEAK = 0.7
_RESOURCE_EXHAUSTED = "8"


def statements(run: Run, results: Results) -> None:
    """Count the statements that one worker sends for 1,000 calls, 64 in flight."""
    with target(run, ONE_WORKER) as found, run.postgres.counted_statements() as count:
        for call in CALLS:
            try:
                found.load(call, pressure(IN_FLIGHT), run.warm_up)
                before = count()
                load, _ = found.load(call, pressure(IN_FLIGHT), min(1, run.seconds))
                results.numbers["statements", call.method] = (count() - before) / load.requests * 1000
            except Unavailable as missing:
                results.leave_out(f"statements of {call.method}: {missing}")


def latency(run: Run, results: Results) -> None:
    """Measure latencies in an open loop: calls arrive at random times, at 70 % of the peak rate."""
    under = pressure(IN_FLIGHT)
    with target(run, ONE_WORKER, spends=False) as found:
        for call in (GET, CREATE, LIST):
            found.load(call, under, run.warm_up, own=True)
            for _ in range(run.rounds):
                rate = _PART_OF_PEAK * found.load(call, under, run.seconds, own=True)[0].rate
                bodies, _ = found.bodies(call, run.seconds)
                before = found.effect(call)
                with found.accounted() as used:
                    to = (found.server.address, call.path, call.user, bodies, under, run.seconds)
                    load = generate(*to, rate=rate)
                found.check(call, load, before, under)
                results.add("latency", ONE_WORKER.name, call.method, found.figure(load, used))


def connections(run: Run, results: Results) -> None:
    """Keep two calls in flight on each of a thousand connections."""
    under = Pressure(200 if run.quick else 1000, 2)
    with target(run, ONE_WORKER, spends=False) as found:
        for call in (GET, CREATE):
            bodies, _ = found.bodies(call, run.seconds)
            before = found.effect(call)
            with found.accounted() as used:
                load = generate(found.server.address, call.path, call.user, bodies, under, run.seconds)
            well, exhausted = load.statuses.get("0", 0), load.statuses.get(_RESOURCE_EXHAUSTED, 0)
            if call.effect and found.effect(call) - before != well:
                raise LoadFailed(
                    f"connections: {well} creates succeeded, {found.effect(call) - before} tasks were created"
                )
            results.add("connections", ONE_WORKER.name, call.method, found.figure(load, used))
            results.numbers["connections", f"{call.method}: well"] = well
            results.numbers["connections", f"{call.method}: RESOURCE_EXHAUSTED"] = exhausted
            results.numbers["connections", f"{call.method}: other failures"] = load.failed - exhausted
            if load.failed > exhausted:
                results.leave_out(f"connections, {call.method}: {load.statuses}, the first: {load.cause}")


def generators(run: Run, results: Results) -> None:
    """Compare both generators on one server. Ours sends one request, as h2load does, and then many."""
    under = pressure(IN_FLIGHT)
    many = run.folder / "many"
    write_bodies(GET, many, 0)
    with targets(run, results, (ONE_WORKER,) if run.quick else (EMPTY, ONE_WORKER), spends=False) as found:
        for each in found:
            each.load(GET, under, run.warm_up, own=True)
        for each in run.turns(found):
            name = each.contender.name
            results.add("generators", name, "GetTask, h2load", each.load(GET, under, run.seconds)[1])
            own = each.load(GET, under, run.seconds, own=True)[1]
            results.add("generators", name, "GetTask, own generator", own)
            with each.accounted() as used:
                load = generate(each.server.address, GET.path, GET.user, many, under, run.seconds)
            each.check(GET, load, 0, under)
            what = f"GetTask, own generator, {READ:,} tasks"
            results.add("generators", name, what, each.figure(load, used))
