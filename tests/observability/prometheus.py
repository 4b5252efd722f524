"""Runs a real Prometheus that scrapes servers under test, and asks it."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.faults.ports import free_port
from tests.waiting import until

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "observability"
"""The folder with the rules, their tests and the dashboard."""
_BIN = ROOT / ".tools" / "bin"
_TIMEOUT = 60.0
"""Limit of every wait for Prometheus (s)."""


def missing(name: str) -> str | None:
    """Why a tool cannot be run; None if it can."""
    return None if _found(name) else f"{name} is not installed: 'make prometheus' fetches it"


def tool(name: str) -> str:
    """The path of prometheus or promtool. Skips the test where it is missing."""
    found = _found(name)
    if not found:
        pytest.skip(f"{missing(name)}; rules, dashboard and runbooks were not tested")
    return found


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}{_BIN}")


class Prometheus:
    """A running Prometheus."""

    def __init__(self, address: str) -> None:
        self.address = address

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an expression has now."""
        result: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return result

    def value(self, expression: str) -> float | None:
        """The value of an expression with one sample; None if it has none."""
        samples = self.query(expression)
        return float(samples[0]["value"][1]) if samples else None

    def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire: name and severity."""
        alerts = self.ask("alerts")["alerts"]
        return {
            (alert["labels"]["alertname"], alert["labels"]["severity"])
            for alert in alerts
            if alert["state"] == "firing"
        }

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of a response of the HTTP API."""
        with urlopen(f"http://{self.address}/api/v1/{path}?{urlencode(parameters)}", timeout=_TIMEOUT) as response:
            return json.load(response)["data"]

    def is_ready(self) -> bool:
        try:
            with urlopen(f"http://{self.address}/-/ready", timeout=_TIMEOUT):
                return True
        except (URLError, ConnectionError):
            return False


@contextmanager
def running_prometheus(
    folder: Path, targets: Sequence[str], *, rules: Path | None = None, interval: str = "1s"
) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes these addresses as the job `taskwell`."""
    address = f"127.0.0.1:{free_port()}"
    configuration = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(rules)] if rules else [],
        "scrape_configs": [{"job_name": "taskwell", "static_configs": [{"targets": list(targets)}]}],
    }
    (folder / "prometheus.json").write_text(json.dumps(configuration))  # JSON is YAML
    command = [
        tool("prometheus"),
        f"--config.file={folder / 'prometheus.json'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            prometheus = Prometheus(address)
            until(prometheus.is_ready)
            yield prometheus
        finally:
            process.kill()


def hasty_rules(folder: Path) -> Path:
    """A copy of the rules whose alerts fire sixty times sooner; the expressions are the same."""
    text = (UNIT / "rules.yaml").read_text()
    hasty = re.sub(r"(?m)^( +for: )(\d+)([mh])$", lambda found: f"{found[1]}{_seconds(found[2], found[3])}s", text)
    path = folder / "rules.yaml"
    path.write_text(hasty)
    return path


def _seconds(number: str, unit: str) -> int:
    return int(number) * {"m": 1, "h": 60}[unit]


_SELECTOR = re.compile(r"\b((?:taskwell|grpc_server|process)_\w+|up)(\{[^}]*\})?")


def selectors(expression: str) -> set[str]:
    """The selectors of series in an expression. Recorded series (taskwell:cause) are left out."""
    return {f"{name}{labels or ''}" for name, labels in _SELECTOR.findall(expression)}


def filled(expression: str, variables: Mapping[str, str]) -> str:
    """An expression of a dashboard with values for its variables."""
    for name, value in variables.items():
        expression = expression.replace(f"${name}", value).replace(f"${{{name}}}", value)
    return expression
