"""The benchmark: measures Taskwell beside its peers, prints a table with the goals, writes JSON and two charts.

    python -m bench.run [--quick] [--only SCENARIO] [--rounds N] [--seconds S] [--out FOLDER]

bench/README.md explains the figures. The exit status is 1 only if calls failed: a missed goal is no failure.
"""

import argparse
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import goals
from bench.chart import draw
from bench.database import postgres
from bench.load import LoadFailed, Unavailable
from bench.machine import BUILD, description
from bench.measure import Run
from bench.results import Results
from bench.scenarios import client, curve, growth, identity, methods, rest, single, sqlite
from bench.table import table

SCENARIOS: dict[str, Callable[[Run, Results], None]] = {
    "methods": methods.measure,
    "curve": curve.measure,
    "statements": single.statements,
    "latency": single.latency,
    "connections": single.connections,
    "growth": growth.measure,
    "sqlite": sqlite.measure,
    "generators": single.generators,
    "identity": identity.tokens,
    "flood": identity.flood,
    "client": client.measure,
    "rest": rest.measure,
}


def main() -> int:
    options = _options()
    _allow_many_connections()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that every `finally` runs
    BUILD.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    failed = False
    with postgres() as server, tempfile.TemporaryDirectory(prefix="taskwell-bench-") as folder:
        run = Run(
            server,
            Path(folder),
            rounds=options.rounds,
            seconds=options.seconds,
            warm_up=0.2 if options.quick else 1.5,
            quick=options.quick,
        )
        machine = {**description(), **server.settings, "rounds": run.rounds, "seconds": run.seconds}
        results = Results(machine)
        for name in options.only or SCENARIOS:
            failed |= not _measured(name, run, results)
    judged = goals.judged(results)
    print(table(results, judged))
    results.write(options.out / "results.json", judged)
    for chart in draw(results, options.out):
        print(f"chart: {chart}", file=sys.stderr)
    return int(failed)


def _measured(name: str, run: Run, results: Results) -> bool:
    """Run a scenario. Returns False if its calls failed; its earlier figures stay in the results."""
    begin = time.monotonic()
    try:
        SCENARIOS[name](run, results)
    except Unavailable as missing:
        results.leave_out(f"{name}: {missing}")
    except LoadFailed as failure:
        print(f"{name} FAILED: {failure}", file=sys.stderr)
        results.leave_out(f"{name} FAILED: {failure}")
        return False
    print(f"{name}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return True


def _allow_many_connections() -> None:
    """Raise the limit of open files for a thousand connections; servers and generators inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Measures Taskwell beside its peers.")
    parser.add_argument("--quick", action="store_true", help="run everything once, in under two minutes")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="a scenario; may be given several times")
    parser.add_argument("--rounds", type=int, help="measurements of each contender (8; quick: 1)")
    parser.add_argument("--seconds", type=float, help="duration of each measurement (1; quick: 0.4)")
    parser.add_argument("--out", type=Path, default=BUILD, help="the folder for results.json and the charts")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 8)
    options.seconds = options.seconds or (0.4 if options.quick else 1.0)
    return options


if __name__ == "__main__":
    sys.exit(main())
