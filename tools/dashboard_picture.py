"""Draws the panels of the Grafana dashboard, with the data that a real Prometheus had for them, as one picture.

For where Grafana cannot be had. python tools/dashboard_picture.py DATA PICTURE, in the environment of the benchmark;
tests/observability/picture.py writes the data.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.dates import DateFormatter
from matplotlib.ticker import FuncFormatter

_DASHBOARD = Path(__file__).parents[1] / "deploy" / "observability" / "dashboard.json"
_COLUMNS = 24  # of Grafana's grid
_UNIT = 0.6  # size of a cell of that grid (inches)
_HEIGHT = 0.36
_COLOURS = {"green": "#37872d", "red": "#c4162a", "orange": "#e0752d", "blue": "#1f60c4"}
_MOST_SERIES = 8
_STYLE = {
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "lines.linewidth": 1.1,
}


def draw(data: dict[str, Any], picture: Path) -> None:
    """Draw all panels where the dashboard has them."""
    panels = json.loads(_DASHBOARD.read_text())["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    mpl.rcParams.update(_STYLE)
    figure = plt.figure(figsize=(_COLUMNS * _UNIT, rows * _HEIGHT), dpi=90, facecolor="white")
    for panel in panels:
        place = panel["gridPos"]
        left, width = place["x"] / _COLUMNS, place["w"] / _COLUMNS
        top, height = 1 - place["y"] / rows, place["h"] / rows
        if panel["type"] == "row":
            figure.text(0.008, top - height / 2, panel["title"], va="center", fontsize=10, fontweight="bold")
            continue
        box = (left + 0.035, top - height + 0.9 / rows, width - 0.045, height - 2.1 / rows)
        show = _stat if panel["type"] == "stat" else _graph
        show(figure.add_axes(box), panel, data[str(panel["id"])])
    figure.savefig(picture, pil_kwargs={"optimize": True})


def _stat(axes: Any, panel: dict[str, Any], series: list[dict[str, Any]]) -> None:  # noqa: ANN401 - of matplotlib
    """The last value of each series, on the colour of its threshold."""
    axes.set_axis_off()
    axes.set_title(panel["title"])
    defaults = panel["fieldConfig"]["defaults"]
    end = max((each["times"][-1] for each in series), default=0.0)
    last = [(each["name"], each["values"][-1]) for each in series if each["times"][-1] == end]
    value = last[0][1] if last else 0.0
    steps = defaults["thresholds"]["steps"]
    colour = next(
        (step["color"] for step in reversed(steps) if step["value"] is None or value >= step["value"]), "green"
    )
    axes.add_patch(plt.Rectangle((0, 0), 1, 1, transform=axes.transAxes, color=_COLOURS[colour], alpha=0.85))
    names = [f"{name}: {_shown(value, defaults['unit'])}" for name, value in last]
    axes.text(
        0.5, 0.5, "\n".join(names), transform=axes.transAxes, color="white", ha="center", va="center", fontsize=11
    )


def _graph(axes: Any, panel: dict[str, Any], series: list[dict[str, Any]]) -> None:  # noqa: ANN401 - of matplotlib
    """Lines over time; of many series the largest."""
    defaults = panel["fieldConfig"]["defaults"]
    series = sorted(series, key=lambda each: -max(each["values"], default=0))[:_MOST_SERIES]
    if defaults["custom"]["stacking"]["mode"] == "normal" and series:
        times = [datetime.fromtimestamp(at, UTC) for at in series[0]["times"]]
        axes.stackplot(times, [each["values"] for each in series], labels=[each["name"] for each in series], alpha=0.6)
    else:
        for each in series:
            times = [datetime.fromtimestamp(at, UTC) for at in each["times"]]
            axes.plot(times, each["values"], label=each["name"])
    axes.set_title(panel["title"])
    if not series:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "No data", transform=axes.transAxes, ha="center", color="#777777", fontsize=9)
        return
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _shown(value, defaults["unit"])))
    axes.xaxis.set_major_locator(plt.MaxNLocator(5))
    axes.yaxis.set_major_locator(plt.MaxNLocator(4))
    bottom, top = axes.get_ylim()
    axes.set_ylim(0 if "min" in defaults else bottom, top + 0.3 * (top - bottom))  # room for the legend
    axes.legend(loc="upper left", fontsize=5.5, frameon=False, ncols=2, labelspacing=0.2)


def _shown(value: float, unit: str) -> str:
    """A value as Grafana shows it, about."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    scales = {
        "s": ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")),
        "bytes": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")),
    }
    for scale, name in scales.get(unit, ()):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {name}"
    suffix = {"reqps": "/s", "ops": "/s"}.get(unit, "")
    return f"{value:.3g}{suffix}"


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
