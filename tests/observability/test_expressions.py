"""A real Prometheus that scrapes two workers under a short load answers every expression with data.

Expressions of the dashboard, of the rules, of the runbooks, and of the gRPC panels of other services' dashboards.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.auth.issuing import AUDIENCE, ISSUER, KeyPairs, publishing
from tests.docs.pages import ROOT, blocks
from tests.observability.load import loaded
from tests.observability.prometheus import UNIT, Prometheus, filled, hasty_rules, running_prometheus, selectors
from tests.postgres import fresh_database
from tests.server.workers import workers
from tests.tls.issuing import HOSTS, Authority, Files, secure_channel
from tests.waiting import until

DASHBOARD = json.loads((UNIT / "dashboard.json").read_text())
RULES = yaml.safe_load((UNIT / "rules.yaml").read_text())
OTHERS = yaml.safe_load((Path(__file__).parent / "other_dashboards.yaml").read_text())

VARIABLES = {"job": "taskwell", "instance": ".*", "__rate_interval": "1m", "interval": "1m"}
PANELS = {
    f"dashboard: {panel['title']}, {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
}
SELECTORS = {
    f"rules: {each}": each.replace('worker="0"', 'worker="1"')  # only a server without workers has worker 0
    for group in RULES["groups"]
    for rule in group["rules"]
    for each in selectors(rule["expr"])
}
"""An alert that does not fire has no data, so each of its series is asked for."""
RUNBOOKS = {
    f"runbook: {path.stem} {number}": query
    for path in sorted((ROOT / "docs" / "operations" / "runbooks").glob("*.md"))
    for number, query in enumerate(blocks(path.read_text(), "text"), 1)
}
OF_OTHERS = {f"{name}: {panel}": expr for name, panels in OTHERS.items() for panel, expr in panels.items()}


@pytest.fixture
def prometheus(tmp_path: Path, postgres: str) -> Iterator[Prometheus]:
    """A Prometheus that has scraped two workers with everything that can be watched: TLS, a JWKS, a rate limit."""
    folder, authority, pairs = tmp_path, Authority(), KeyPairs()
    files = Files(folder, authority.issue(*HOSTS))
    metadata = (("authorization", f"Bearer {pairs.token(now=time.time())}"),)
    with fresh_database(postgres) as url, publishing(pairs.published("ed")) as publisher:
        arguments = ("--metrics-address", "127.0.0.1:0", "--migrate", "--rate-limit", "10000", "--log-level", "info")
        environment: dict[str, Any] = {f"TASKWELL_{name.upper()}": value for name, value in files.settings.items()}
        environment |= {"TASKWELL_AUTH": "jwt", "TASKWELL_JWT_JWKS": publisher.url, "TASKWELL_JWT_ISSUER": ISSUER}
        environment |= {"TASKWELL_JWT_AUDIENCE": AUDIENCE, "TASKWELL_DATABASE_URL": url}
        with (
            workers(folder, *arguments, **environment) as running,
            running_prometheus(folder, [running.server.metrics_address], rules=hasty_rules(folder)) as prometheus,
            loaded(
                lambda: secure_channel(running.address, authority.pem),
                lambda _: metadata,
            ),
        ):
            until(lambda: (prometheus.value("sum(increase(taskwell_batch_size_count[1m]))") or 0) > 0)
            yield prometheus


def test_every_expression_has_data(prometheus: Prometheus) -> None:
    """One test, so that the servers are started once, however many processes run tests."""
    assert len(PANELS) > 50
    expressions = PANELS | SELECTORS | RUNBOOKS | OF_OTHERS
    without = [name for name, each in expressions.items() if not prometheus.query(filled(each, VARIABLES))]
    assert without == []
