"""The two charts as hand-written SVG: throughput over calls in flight, CPU time per call."""

from collections.abc import Iterator, Sequence
from html import escape
from math import log2
from pathlib import Path

from bench.contenders import EMPTY, ONE_WORKER, PGX, REPLACED, TEXTBOOK, UNCOALESCED, WORKERS
from bench.results import Results
from bench.scenarios import curve, methods

_COLOURS = {
    EMPTY.name: "#8a8a8a",
    ONE_WORKER.name: "#0b6bcb",
    WORKERS.name: "#083f7a",
    UNCOALESCED.name: "#6ab0f3",
    TEXTBOOK.name: "#c77700",
    PGX.name: "#1b7f4b",
    f"{REPLACED.name}-best": "#b3261e",
}
_LABELS = {each.name: each.label for each in (EMPTY, ONE_WORKER, WORKERS, UNCOALESCED, TEXTBOOK, PGX)}
_LABELS[f"{REPLACED.name}-best"] = f"{REPLACED.label}, at its best"
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _LEGEND = 860, 400, 70, 50, 50, 250


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the charts for which there are figures. Returns the files."""
    written = []
    for name, content in (("throughput.svg", _lines(results)), ("cpu.svg", _bars(results))):
        if content:
            (folder / name).write_text(content)
            written.append(folder / name)
    return written


def _lines(results: Results) -> str:
    """Draw GetTask: req/s over calls in flight, on a logarithmic axis."""
    series = {name: _points(results, name) for name in _COLOURS}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return ""
    top = _round_up(max(rate for points in series.values() for _, rate in points))
    right, floor = _WIDTH - _LEGEND, _HEIGHT - _BOTTOM

    def place(in_flight: int, rate: float) -> tuple[float, float]:
        part = log2(in_flight) / log2(curve.IN_FLIGHT[-1])
        return _LEFT + part * (right - _LEFT), floor - rate / top * (floor - _TOP)

    parts = [_text(_LEFT, 28, "GetTask: requests per second over calls in flight", size=16)]
    for step in range(5):
        _, y = place(1, top * step / 4)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{top * step / 4:,.0f}", anchor="end"))
    parts += [_text(place(mark, 0)[0], floor + 20, str(mark), anchor="middle") for mark in curve.IN_FLIGHT]
    parts.append(_text(right, floor + 40, "calls in flight", anchor="end"))
    for number, (name, points) in enumerate(series.items()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{_COLOURS[name]}" stroke-width="2.5"/>')
        y = _TOP + 22 * number
        parts.append(f'<rect x="{right + 20}" y="{y - 9}" width="12" height="12" fill="{_COLOURS[name]}"/>')
        parts.append(_text(right + 38, y + 2, _LABELS[name]))
    return _svg(_HEIGHT, parts)


def _points(results: Results, name: str) -> list[tuple[int, float]]:
    found = ((count, results.median(curve.NAME, name, f"GetTask {count}")) for count in curve.IN_FLIGHT)
    return [(count, rate) for count, rate in found if rate is not None]


def _bars(results: Results) -> str:
    """Draw the CPU time per call, of the server and of the database."""
    rows = list(_bar_rows(results))
    if not rows:
        return ""
    longest = max(server + database for _, _, server, database in rows)
    scale = (_WIDTH - 400) / longest
    parts = [_text(20, 28, "CPU time per call at 64 in flight (us): server, and (pale) database", size=16)]
    y, last = _TOP, rows[0][1]
    for name, method, server, database in rows:
        y += 14 if method != last else 0
        last = method
        parts.append(_text(20, y + 13, f"{method}  {_LABELS[name]}"))
        widths = server * scale, database * scale
        colour = f'height="16" fill="{_COLOURS[name]}"'
        parts.append(f'<rect x="310" y="{y}" width="{widths[0]:.1f}" {colour}/>')
        parts.append(f'<rect x="{310 + widths[0]:.1f}" y="{y}" width="{widths[1]:.1f}" {colour} opacity="0.35"/>')
        parts.append(_text(318 + sum(widths), y + 13, f"{server:,.0f} + {database:,.0f}"))
        y += 24
    return _svg(y + 10, parts)


def _bar_rows(results: Results) -> Iterator[tuple[str, str, float, float]]:
    for method in ("GetTask", "CreateTask", "ListTasks"):
        for name in _COLOURS:
            server = results.median(methods.NAME, name, method, "cpu")
            database = results.median(methods.NAME, name, method, "database_cpu")
            if server is not None and database is not None:
                yield name, method, server, database


def _round_up(value: float) -> float:
    """Round up to a number whose quarters are round."""
    step = 10.0 ** (len(str(int(value))) - 1)
    return next(step * times for times in (1, 2, 4, 6, 8, 10, 12) if step * times >= value)


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def _svg(height: int, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])
