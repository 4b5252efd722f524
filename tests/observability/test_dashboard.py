"""The Grafana dashboard: what Grafana needs of its JSON, and what a reader needs of its panels."""

import json
from itertools import combinations
from typing import Any

import pytest

from tests.observability.prometheus import UNIT

DASHBOARD = json.loads((UNIT / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]
COLUMNS = 24


def test_ids_of_panels_are_unique() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


@pytest.mark.parametrize("panel", GRAPHS, ids=[panel["title"] for panel in GRAPHS])
def test_panel_says_what_it_shows_of_the_chosen_source_job_and_replicas(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert 'job="$job"' in target["expr"]
        assert "[5m]" not in target["expr"], "Grafana chooses the interval"
        assert target["legendFormat"]


def test_variables_are_those_that_the_panels_use() -> None:
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance"]
