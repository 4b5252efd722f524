"""Draws docs/capacity.svg from the costs in docs/scaling.md: cores that are needed over the calls per second."""

from math import ceil
from pathlib import Path

_MIX = {"get": 0.6, "list": 0.2, "create": 0.1, "update": 0.1}
_BUSY = 0.7
# CPU of a call (µs): of the service, and of PostgreSQL by method. Measured; docs/scaling.md says how.
_SERVICE = {"one PostgreSQL": 310, "Citus": 660}
_DATABASE = {
    "one PostgreSQL": {"get": 5, "list": 20, "create": 30, "update": 23},
    "Citus": {"get": 20, "list": 27, "create": 185, "update": 210},
}
_RATES = (1_000, 10_000, 30_000, 100_000)
_COLOURS = {
    "Taskwell": {"one PostgreSQL": "#0b6bcb", "Citus": "#083f7a"},
    "database": dict.fromkeys(_SERVICE, "#c77700"),
}
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 320, 50, 40


def cores(rate: float, microseconds: float) -> int:
    """The cores for so many calls per second."""
    return ceil(rate * microseconds / 1e6 / _BUSY)


def cost(database: str) -> float:
    """CPU of the database for a call of the mix (µs)."""
    return sum(share * _DATABASE[database][method] for method, share in _MIX.items())


def chart() -> str:
    """The chart: a line for each kind of core on each kind of database."""
    highest = cores(_RATES[-1], max(_SERVICE.values()))
    parts = [
        f'<line x1="{_LEFT}" y1="{_HEIGHT - _BOTTOM}" x2="{_WIDTH - 180}" y2="{_HEIGHT - _BOTTOM}" stroke="#888"/>'
    ]
    for part, of in (("Taskwell", _SERVICE), ("database", {name: cost(name) for name in _DATABASE})):
        for name, microseconds in of.items():
            points = [(_x(rate), _y(rate * microseconds / 1e6 / _BUSY, highest)) for rate in (0, *_RATES)]
            line = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
            dashes = ' stroke-dasharray="5 4"' if name == "Citus" else ""
            colour = _COLOURS[part][name]
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
            parts.append(_text(points[-1][0] + 6, points[-1][1] + 4, f"{part}, {name}"))
    parts += [_text(_x(rate) - 20, _HEIGHT - _BOTTOM + 18, f"{rate:,}") for rate in _RATES[1:]]
    parts += [_text(8, _y(level, highest) + 4, str(level)) for level in (0, 25, 50, 75)]
    parts.append(_text(_LEFT, _HEIGHT - 6, "calls per second (cores at the left)"))
    content = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{content}\n</svg>\n'
    )


def _x(rate: float) -> float:
    return _LEFT + rate / _RATES[-1] * (_WIDTH - 180 - _LEFT)


def _y(level: float, highest: float) -> float:
    return _HEIGHT - _BOTTOM - level / highest * (_HEIGHT - _BOTTOM - 20)


def _text(x: float, y: float, words: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="12">{words}</text>'


if __name__ == "__main__":
    for rate in _RATES:
        row = [cores(rate, each) for name in _SERVICE for each in (_SERVICE[name], cost(name))]
        print(f"{rate:,}", *row)
    Path("docs/capacity.svg").write_text(chart())
