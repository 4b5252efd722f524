"""A fault is found by its alert, and by no other page: the short form of `make runbooks`, which causes all of them."""

import pytest

from tests.observability.cases import BY_NAME, CASES, TIMING, complaints, run
from tests.observability.prometheus import tool
from tests.observability.test_rules import ALERTS
from tests.postgres import URL_VARIABLE


def test_database_away_is_found_by_its_alert_alone(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool("prometheus")
    monkeypatch.setenv(URL_VARIABLE, postgres)
    case = BY_NAME["database away"]
    assert complaints(case, run(case, calm=1, after=1), TIMING) == []


def test_each_case_names_an_alert() -> None:
    alerts = {(rule["alert"], rule["labels"]["severity"]) for rule in ALERTS}
    assert {case.alert for case in CASES} <= alerts
