"""Every metric of the reference is on the first scrape of a server, with zeros, by names as Prometheus wants them."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.metrics.series import ALL_SERIES, Kind, Series
from tests.auth.issuing import AUDIENCE, ISSUER, KeyPairs
from tests.observability.prometheus import tool
from tests.server.starting import TIMEOUT
from tests.server.workers import workers
from tests.tls.issuing import HOSTS, Authority, Files
from tests.waiting import until

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text()


@pytest.fixture(scope="module", params=[1, 2])
def scrape(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The first scrape of a server that has certificates and keys of an issuer, when it is ready."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "keys.json").write_bytes(KeyPairs().published())
    authority = Authority()
    files = Files(folder, authority.issue(*HOSTS), authority.pem)
    settings = {
        **files.settings,
        "auth": "jwt",
        "jwt_jwks": "keys.json",
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
        "metrics_address": "127.0.0.1:0",
        "rest_address": "127.0.0.1:0",
    }
    environment: dict[str, Any] = {f"TASKWELL_{name.upper()}": str(value) for name, value in settings.items()}
    (folder / "tmp").mkdir()
    with workers(folder, count=request.param, TMPDIR=str(folder / "tmp"), **environment) as running:
        assert running.server.process.stdout
        lines = iter(running.server.process.stdout.readline, "")
        address = next(line.split()[-1] for line in lines if line.startswith("metrics listening on"))

        def read() -> str:
            with urlopen(f"http://{address}/metrics", timeout=TIMEOUT) as response:
                return str(response.read().decode())

        until(lambda: read().count("\ntaskwell_ready{") == request.param)
        yield read()


def families_of(scrape: str) -> dict[str, Metric]:
    families = {family.name: family for family in text_string_to_metric_families(scrape)}
    return {f"{name}_total" if family.type == "counter" else name: family for name, family in families.items()}


def test_the_scrape_has_the_metrics_of_the_reference_and_no_others(scrape: str) -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", REFERENCE, re.MULTILINE))
    assert listed == {each.name for each in ALL_SERIES}
    assert set(families_of(scrape)) == listed


@pytest.mark.parametrize("each", ALL_SERIES, ids=lambda each: each.name)
def test_a_metric_is_there_before_its_first_event(scrape: str, each: Series) -> None:
    family = families_of(scrape)[each.name]
    assert family.type == each.kind.value
    assert family.documentation == each.description
    assert family.samples, each.name
    assert {frozenset(sample.labels) - {"le"} for sample in family.samples} == {frozenset(each.labels)}
    if each.kind is not Kind.GAUGE and not each.name.startswith(("process_", "taskwell_database_", "taskwell_jwks_")):
        assert {sample.value for sample in family.samples} == {0}


@pytest.mark.parametrize("each", ALL_SERIES, ids=lambda each: each.name)
def test_names_end_in_their_unit_and_counters_in_total(each: Series) -> None:
    assert re.fullmatch(r"(grpc_server|taskwell|process)_[a-z_]*[a-z]", each.name)
    assert each.name.endswith("_total") == (each.kind is Kind.COUNTER)
    is_time = bool(re.search(r"\((s|Unix time)\)", each.description))
    assert is_time == each.name.endswith(("_seconds", "_seconds_total"))
    assert ("(bytes)" in each.description) == each.name.endswith("_bytes")
    assert not re.search(r"_(count|sum|bucket|ms|milliseconds|minutes|kb|gauge|histogram|counter)$", each.name)
    if each.kind is Kind.HISTOGRAM:
        assert each.buckets == tuple(sorted(each.buckets))


def test_promtool_finds_no_fault_with_the_metrics(scrape: str) -> None:
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=scrape, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
