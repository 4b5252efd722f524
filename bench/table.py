"""The Markdown table that a run prints: every figure, then every goal."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bench.results import Figure, Results

_HEAD = ("scenario", "contender", "what", "req/s (min to max)", "CPU us", "db CPU us", "p50 ms", "p99 ms", "MiB")
_GOALS = ("goal", "bound", "found", "verdict")


def table(results: Results, goals: list[dict[str, Any]]) -> str:
    """Medians over the rounds, with the spread of the requests per second."""
    lines = [f"{name}: {value}" for name, value in results.machine.items()]
    lines += ["", *_markdown(_HEAD, (_figures(key, found) for key, found in results.figures.items()))]
    lines += ["", *_markdown(("scenario", "what", "number"), _numbers(results))]
    lines += ["", *_markdown(_GOALS, ([str(goal[name]) for name in _GOALS] for goal in goals))]
    lines += [f"skipped: {sentence}" for sentence in results.left_out]
    return "\n".join(lines)


def _figures(key: tuple[str, str, str], found: Sequence[Figure]) -> Sequence[str]:
    rates = [figure.rate for figure in found]

    def median(attribute: str, *, scale: float = 1, digits: int = 0) -> str:
        value = statistics.median(getattr(figure, attribute) for figure in found)
        return f"{value / scale:,.{digits}f}" if value else "-"

    return (
        *key,
        f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})",
        median("cpu"),
        median("database_cpu"),
        median("p50", scale=1000, digits=2),
        median("p99", scale=1000, digits=2),
        median("memory"),
    )


def _numbers(results: Results) -> Iterator[Sequence[str]]:
    for (scenario, name), value in results.numbers.items():
        yield scenario, name, f"{value:,.1f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in (lines[0], rule, *lines[1:])]
