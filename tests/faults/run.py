"""Runs the fault harness: workload, faults and checker on every kind of database.

python -m tests.faults.run [--calls N] [--database KIND] [--seed N] [--seconds N] [--fault NAME]
"""

import argparse
import statistics
import sys
import time

from service.log import configure_log
from tests.faults import pooler
from tests.faults.anomalies import BUSY_MACHINE
from tests.faults.campaign import SETTINGS, Result, run_round
from tests.faults.catalogue import FAULTS
from tests.faults.checker import anomalies_by_kind
from tests.faults.fault import PGBOUNCER, POSTGRESQL, SQLITE, Fault
from tests.faults.system import running_system
from tests.faults.workload import Load

ROUND = 40_000
"""Calls of one round: its history is held in memory until it is checked."""
SEED = 20261127
_FAILURES = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED", "INTERNAL", "UNKNOWN")
_SHOWN = 3
"""Most anomalies of each kind that are printed."""


def run(kind: str, faults: list[Fault], *, calls: int, seed: int, seconds: float) -> Result:
    """Run rounds on one kind of database until there were so many calls, or the time is over."""
    result = Result()
    ends = time.monotonic() + seconds
    with running_system(kind, settings=SETTINGS) as system:
        while result.calls < calls and time.monotonic() < ends:
            load = Load(min(ROUND, calls - result.calls), seconds=ends - time.monotonic())
            result.add(*run_round(system, load, faults, seed=seed))
            seed += 1
            done = f"{result.calls:,} calls, {result.injected} faults, {len(result.anomalies)} anomalies"
            print(f"{kind}: {done} after {result.seconds:.0f} s", flush=True)
    return result


def show(kind: str, result: Result) -> None:
    """Print what a run showed."""
    rate = result.calls / max(result.seconds, 0.001)
    print(f"{kind}: {result.calls:,} calls in {result.seconds:.0f} s ({rate:,.0f} per second)")
    print(f"  codes: {', '.join(f'{code} {count:,}' for code, count in result.codes.most_common())}")
    print(f"  {result.injected} faults, the calls in flight during each, and the first success after its end:")
    for name, seen in sorted(result.faults.items()):
        failed = ", ".join(f"{code} {seen.codes[code]:,}" for code in _FAILURES if seen.codes[code])
        median = statistics.median(seen.recoveries) if seen.recoveries else 0.0
        recovery = f"{median:.2f} s, at most {max(seen.recoveries, default=0.0):.2f} s"
        print(f"  {seen.times:>5} {name:<40} {seen.codes.total():>7,} calls, {failed or 'none failed'}; {recovery}")
    print(f"  memory: {result.first_resident >> 20} MiB at first, peak {result.peak_resident >> 20} MiB")
    print(f"  longest health check: {result.longest_health_check:.2f} s")
    for anomaly_kind, found in anomalies_by_kind(result.anomalies):
        print(f"  {len(found)} times {anomaly_kind.name}: {anomaly_kind.value}")
        for anomaly in found[:_SHOWN]:
            print(f"    {anomaly}")
    print(f"  anomalies: {len(result.anomalies)}", flush=True)


def kinds(wanted: str | None) -> list[str]:
    """The kinds of databases to run on. Says if PgBouncer is missing."""
    if wanted:
        return [wanted]
    if pooler.program():
        return [SQLITE, POSTGRESQL, PGBOUNCER]
    print("PgBouncer: skipped, its program is not installed")
    return [SQLITE, POSTGRESQL]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.run", description="Run the fault harness.")
    parser.add_argument("--calls", type=int, default=60_000, help="calls in all")
    parser.add_argument("--database", choices=[SQLITE, POSTGRESQL, PGBOUNCER])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--seconds", type=float, default=3600, help="longest time in all")
    parser.add_argument("--busy", action="store_true", help="do not fail for what a busy machine can cause as well")
    parser.add_argument("--fault", help="only the faults whose names contain this")
    arguments = parser.parse_args()
    configure_log("warning", "auto")
    chosen = kinds(arguments.database)
    anomalies = 0
    for kind in chosen:
        faults = [fault for fault in FAULTS if kind in fault.databases and (arguments.fault or "") in fault.name]
        share = arguments.calls // len(chosen)
        result = run(kind, faults, calls=share, seed=arguments.seed, seconds=arguments.seconds / len(chosen))
        show(kind, result)
        anomalies += sum(not (arguments.busy and each.kind in BUSY_MACHINE) for each in result.anomalies)
    if anomalies:
        sys.exit(f"{anomalies} anomalies")


if __name__ == "__main__":
    main()
