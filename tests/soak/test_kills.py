"""The short form of tests/soak/kills.py. (The fault harness kills a server and a process of PostgreSQL.)"""

import pytest

from tests.faults.anomalies import BUSY_MACHINE
from tests.faults.fault import SQLITE
from tests.soak import kills
from tests.soak.kills import SUPERVISOR, WORKER, killed


@pytest.mark.parametrize(("part", "database"), [(WORKER, SQLITE), (SUPERVISOR, SQLITE)])
def test_kill_9_loses_no_acknowledged_write(part: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "BETWEEN", 60)
    result = killed(part, database, 1)
    assert [str(anomaly) for anomaly in result.anomalies if anomaly.kind not in BUSY_MACHINE] == []
    assert len(result.recoveries) == len(result.replaced) == 1
    assert result.calls > 120
