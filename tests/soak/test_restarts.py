"""The short form of tests/soak/restarts.py."""

import pytest

from tests.soak import restarts
from tests.soak.restarts import restarted


def test_no_safe_call_fails_while_servers_restart(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "BETWEEN", 50)
    loads, _ = restarted(postgresql_url, 1, with_go=False)
    assert [problem for load in loads for problem in load.problems()] == []
    assert min(load.succeeded for load in loads) >= 100
