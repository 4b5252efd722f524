"""The Prometheus rules: syntax, unit tests, and a runbook for each alert."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import blocks
from tests.observability.prometheus import ROOT, UNIT, tool

RULES = yaml.safe_load((UNIT / "rules.yaml").read_text())
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
RUNBOOKS = ROOT / "docs" / "operations" / "runbooks"
SECTIONS = ("## Meaning", "## What callers see", "## Confirm", "## What to do", "## Escalate")


@pytest.mark.parametrize("command", [("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml")])
def test_promtool_passes_the_rules(command: tuple[str, ...]) -> None:
    done = subprocess.run([tool("promtool"), *command], cwd=UNIT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_in_a_unit_test_with_each_severity() -> None:
    tested = (UNIT / "rules_test.yaml").read_text()
    expected = {f'alertname="{rule["alert"]}", severity="{rule["labels"]["severity"]}"' for rule in ALERTS}
    assert {each for each in expected if each not in tested} == set()


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_each_alert_has_a_severity_a_summary_and_a_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"].endswith(".")
    runbook = RUNBOOKS / Path(rule["annotations"]["runbook_url"]).with_suffix(".md").name
    page = runbook.read_text()
    assert page.startswith(f"# {rule['alert']}\n")
    assert [line for line in page.splitlines() if line.startswith("## ")] == list(SECTIONS)


def test_each_log_line_in_a_runbook_exists() -> None:
    code = "".join(path.read_text() for path in (ROOT / "service").rglob("*.py"))
    events = {
        event
        for path in RUNBOOKS.glob("*.md")
        for script in blocks(path.read_text(), "sh")
        for event in re.findall(r'\.event == "([^"]+)"', script)
    }
    assert {"rpc", "worker exited"} <= events
    assert {event for event in events if f'"{event}"' not in code} == set()


def test_each_runbook_belongs_to_an_alert() -> None:
    linked = {Path(rule["annotations"]["runbook_url"]).stem for rule in ALERTS}
    assert linked == {path.stem for path in RUNBOOKS.glob("*.md")} - {"index"}
