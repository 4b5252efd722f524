"""Shows that the checker sees: each seeded bug must be reported by its name, and the service without one by none.

python -m tests.faults.seeded_run [BUG ...]
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence

from service.log import configure_log
from tests.faults import seeded_bugs  # noqa: F401 - it fills BUGS
from tests.faults.anomalies import Anomaly, Kind
from tests.faults.campaign import SETTINGS, run_round
from tests.faults.catalogue import FAULTS
from tests.faults.checker import check
from tests.faults.seeding import BUGS, Bug
from tests.faults.system import running_system
from tests.faults.workload import Load

CALLS = 4000
CALLS_BETWEEN = 200
"""Calls between two faults: few, so that each run has several."""
SEED = 1


def found_with(*bugs: Bug, calls: int = CALLS) -> list[Anomaly]:
    """The anomalies of a workload against the service with these bugs, which need the same database and fault."""
    [(database, wanted)] = {(bug.database, bug.fault) for bug in bugs}
    faults = [fault for fault in FAULTS if wanted and wanted in fault.name]
    launcher = ("tests.faults.seeded", ",".join(bug.name for bug in bugs))
    with running_system(database, launcher=launcher, settings=SETTINGS) as system:
        history, _ = run_round(system, Load(calls, seconds=60), faults, seed=SEED, calls_between=CALLS_BETWEEN)
    return check(history)


def named(bug: Bug, found: Sequence[Anomaly]) -> bool:
    """True if the anomalies name this bug."""
    return bool(bug.kinds & {anomaly.kind for anomaly in found})


def main() -> None:
    configure_log("error", "auto")
    unseen = []
    for name in sys.argv[1:] or BUGS:
        begun = time.monotonic()
        found = found_with(BUGS[name])
        kinds: Counter[Kind] = Counter(anomaly.kind for anomaly in found)
        told = ", ".join(f"{kind.name} {count}" for kind, count in kinds.most_common())
        seen = named(BUGS[name], found)
        print(f"{'seen  ' if seen else 'MISSED'} {name} ({time.monotonic() - begun:.0f} s): {told}", flush=True)
        unseen += [] if seen else [name]
    if unseen:
        sys.exit(f"not seen: {', '.join(unseen)}")


if __name__ == "__main__":
    main()
