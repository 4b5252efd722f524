"""Short runs of the harness: the service passes, and seeded bugs are seen. `make faults` has the long ones."""

from tests.faults.anomalies import BUSY_MACHINE
from tests.faults.campaign import SETTINGS, run_round
from tests.faults.catalogue import FAULTS
from tests.faults.checker import check
from tests.faults.fault import POSTGRESQL
from tests.faults.seeded_run import found_with, named
from tests.faults.seeding import BUGS
from tests.faults.system import running_system
from tests.faults.workload import Load

_SEEDED = (
    "etag_is_ignored_by_update",
    "current_etag_is_aborted",
    "complete_toggles",
    "delete_is_rolled_back",
    "filter_is_ignored",
    "page_token_is_bound_to_nothing",
)


def test_no_anomalies_while_connections_and_responses_are_lost() -> None:
    faults = [fault for fault in FAULTS if fault.name in {"connections cut", "responses lost", "sessions terminated"}]
    assert len(faults) == 3
    with running_system(POSTGRESQL, settings=SETTINGS) as system:
        history, _ = run_round(system, Load(800, seconds=60), faults, seed=1, calls_between=80)
    assert {fault.name for fault in history.faults} == {fault.name for fault in faults}
    assert [str(anomaly) for anomaly in check(history) if anomaly.kind not in BUSY_MACHINE] == []


def test_seeded_bugs_are_seen() -> None:
    bugs = [BUGS[name] for name in _SEEDED]
    found = found_with(*bugs, calls=2000)
    assert [bug.name for bug in bugs if not named(bug, found)] == []
