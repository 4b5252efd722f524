"""Throughput and latency over calls in flight: GetTask and CreateTask from 1 to 256."""

from dataclasses import replace

from bench.calls import CREATE, GET
from bench.contenders import EMPTY, ONE_WORKER, PGX, TEXTBOOK, UNCOALESCED, WORKERS
from bench.load import Unavailable, generator, pressure
from bench.measure import Run, targets
from bench.results import Results

NAME = "curve"
IN_FLIGHT = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTENDERS = (EMPTY, ONE_WORKER, WORKERS, UNCOALESCED, TEXTBOOK, PGX)


def measure(run: Run, results: Results) -> None:
    """Measure with our own generator, which reports latencies, or with h2load if there is no Go."""
    try:
        generator()
        own = True
    except Unavailable as missing:
        own = False
        results.leave_out(f"latencies over the calls in flight: {missing}")
    run = replace(run, seconds=run.seconds / 2, warm_up=run.warm_up / 4)
    with targets(run, results, (EMPTY, ONE_WORKER) if run.quick else CONTENDERS, spends=False) as found:
        for call in (GET, CREATE):
            for in_flight in (1, 256) if run.quick else IN_FLIGHT:
                under = pressure(in_flight)
                for each in found:
                    each.load(call, under, run.warm_up, own=own)
                for each in run.turns(found):
                    _, figure = each.load(call, under, run.seconds, own=own)
                    results.add(NAME, each.contender.name, f"{call.method} {in_flight}", figure)
