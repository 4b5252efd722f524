"""Causes the faults that have a runbook, one after the other. Its alert must find each, and no other page.

python -m tests.observability.runbooks [--case NAME]
"""

import argparse
import os
import sys

from service.log import configure_log
from tests.observability.cases import CASES, Case, complaints, run
from tests.observability.prometheus import missing
from tests.postgres import URL_VARIABLE, running_postgres


def show(case: Case) -> bool:
    """Run a case and print a line for it. True if all was as it should be."""
    if case.missing:
        print(f"{case.name:<34} skipped, because {case.missing}")
        return True
    outcome = run(case)
    wrong = complaints(case, outcome)
    others = sorted(f"{name} ({severity})" for name, severity in outcome.after - {case.alert})
    fired = "never" if outcome.seconds is None else f"{outcome.seconds:.0f} s"
    alert = f"{case.alert[0]} ({case.alert[1]})"
    print(f"{case.name:<34} {alert:<34} {fired:>6}  also: {', '.join(others) or 'none'}")
    for each in wrong:
        print(f"    {each}")
    sys.stdout.flush()
    return not wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.observability.runbooks", description="Cause each fault.")
    parser.add_argument("--case", default="", help="only the cases whose names contain this")
    arguments = parser.parse_args()
    configure_log("warning", "auto")
    if lacking := missing("prometheus"):
        sys.exit(lacking)
    with running_postgres() as url:
        os.environ[URL_VARIABLE] = url
        results = [show(case) for case in CASES if arguments.case in case.name]
    print(f"{len(results)} cases, {results.count(False)} wrong")
    sys.exit(1 if False in results or not results else 0)


if __name__ == "__main__":
    main()
