"""Runs each fault alone against each kind of database and prints what callers of each method saw.

python -m tests.faults.matrix [--database KIND] [--fault NAME] [--calls N] [--markdown]
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from service.log import configure_log
from tests.faults import anomalies
from tests.faults.campaign import SETTINGS, run_round
from tests.faults.catalogue import FAULTS
from tests.faults.checker import check
from tests.faults.fault import PGBOUNCER, POSTGRESQL, SQLITE, Fault
from tests.faults.history import Call, History
from tests.faults.own_systems import OWN_SYSTEMS
from tests.faults.run import kinds
from tests.faults.statuses import recoveries
from tests.faults.system import System, running_system
from tests.faults.workload import Load

Start = Callable[[str], AbstractContextManager[System]]

METHODS = ("CreateTask", "ListTasks", "GetTask", "UpdateTask", "DeleteTask", "CompleteTask")
_FAILED = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "CANCELLED", "RESOURCE_EXHAUSTED", "UNKNOWN")
_SEED = 1
_SHOWN = 5
_SECONDS = 30.0
"""The longest time of a case (s)."""
_TIMES = 5
"""How often a fault is injected in a case, about."""


@dataclass(frozen=True)
class Case:
    """What a fault did to a system."""

    name: str
    kind: str
    history: History
    anomalies: Sequence[anomalies.Anomaly]
    recovery: float | None
    """The longest time from the end of a fault to the end of the first call that began after it and succeeded (s)."""

    def during(self) -> Iterator[Call]:
        """The calls that ran during a fault, or until a call succeeded after it."""
        later = self.recovery or 0
        for call in self.history.calls:
            if any(fault.start <= call.end and call.start <= fault.end + later for fault in self.history.faults):
                yield call

    def failures(self) -> dict[str, Counter[str]]:
        """For each method, how many calls failed for the fault during it, by code; all calls as the code ''."""
        seen: dict[str, Counter[str]] = {method: Counter() for method in METHODS}
        for call in self.during():
            seen[call.method][""] += 1
            if call.code in _FAILED:
                seen[call.method][call.code] += 1
        return seen


def run_case(system: System, faults: Sequence[Fault], *, calls: int, seed: int, calls_between: int) -> Case:
    """Run the workload while faults are injected, each several times if there are enough calls."""
    load = Load(calls, users=4, workers=5, seconds=_SECONDS)
    history, _ = run_round(system, load, faults, seed=seed, calls_between=calls_between)
    longest = max((seconds for _, seconds in recoveries(history)), default=None)
    name = " or ".join(fault.name for fault in faults)
    return Case(name, system.kind, history, check(history), longest)


def run_cases(started: AbstractContextManager[System], faults: Sequence[Fault], calls: int) -> list[Case]:
    """Run faults one after the other on one system, and print each case."""
    cases = []
    with started as system:
        for number, fault in enumerate(faults):
            between = calls // _TIMES
            cases.append(run_case(system, [fault], calls=calls, seed=_SEED + number, calls_between=between))
            show(cases[-1])
            if system.pooler:
                system.pooler.verify_runs()
    return cases


def systems() -> Iterator[tuple[Start, Sequence[Fault]]]:
    """Ways to start a system, with their faults. Says what cannot run here."""
    yield lambda kind: running_system(kind, settings=SETTINGS), FAULTS
    for own in OWN_SYSTEMS:
        if own.missing:
            print(f"skipped, because {own.missing}: {', '.join(fault.name for fault in own.faults)}")
        else:
            yield own.start, own.faults


def show(case: Case) -> None:
    """Print a case as a line, and its anomalies."""
    seen = case.failures()
    codes = sum(seen.values(), Counter())
    methods = " ".join(
        f"{sum(count for code, count in seen[method].items() if code)}/{seen[method]['']}" for method in METHODS
    )
    failed = ", ".join(f"{code} {count}" for code, count in codes.most_common() if code) or "none"
    recovery = "never" if case.recovery is None else f"{case.recovery:.2f} s"
    print(f"{case.kind:<10} {case.name:<42} {len(case.history.faults)} x {methods:<36} {recovery:>7} {failed}")
    for anomaly in case.anomalies[:_SHOWN]:
        print(f"    {anomaly}")
    sys.stdout.flush()


def row(cases: Sequence[Case]) -> str:
    """A row of the table in docs/operations/reliability.md."""
    codes = sum((sum(case.failures().values(), Counter()) for case in cases), Counter())
    shares = {code: round(100 * count / max(1, codes[""])) for code, count in codes.most_common() if code}
    failed = ", ".join(f"{code} {share} %" for code, share in shares.items() if share) or "below 1 %"
    slowest = max(case.recovery or 0 for case in cases)
    return f"| {cases[0].name} | {', '.join(case.kind for case in cases)} | {failed} | {slowest:.1f} s |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix", description="Run each fault alone.")
    parser.add_argument("--database", choices=[SQLITE, POSTGRESQL, PGBOUNCER])
    parser.add_argument("--fault", default="", help="only the faults whose names contain this")
    parser.add_argument("--calls", type=int, default=1000, help="calls per case")
    parser.add_argument("--markdown", action="store_true", help="print a table for the documents as well")
    arguments = parser.parse_args()
    configure_log("warning", "auto")
    cases: list[Case] = []
    for start, faults in systems():
        for kind in kinds(arguments.database):
            chosen = [fault for fault in faults if kind in fault.databases and arguments.fault in fault.name]
            if chosen:
                cases += run_cases(start(kind), chosen, arguments.calls)
    if arguments.markdown:
        for name in dict.fromkeys(case.name for case in cases):
            print(row([case for case in cases if case.name == name]))
    found = sum(len(case.anomalies) for case in cases)
    print(f"{len(cases)} cases, {sum(len(case.history.calls) for case in cases):,} calls, {found} anomalies")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
