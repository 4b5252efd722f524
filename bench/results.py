"""The results of a run: figures by scenario, contender and call, their medians, and the skipped parts."""

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Figure:
    """The results of one measurement."""

    rate: float
    """Responses per second."""
    cpu: float
    """CPU time (µs) per call of the server's processes."""
    database_cpu: float
    """CPU time (µs) per call of the database's processes."""
    memory: float
    """Peak resident set (MiB) of any process of the server so far."""
    p50: float = 0.0
    p99: float = 0.0
    """Latencies (µs), if the generator measures them."""


@dataclass
class Results:
    """Written by the scenarios, read by the goals, the table and the charts."""

    machine: dict[str, Any]
    figures: dict[tuple[str, str, str], list[Figure]] = field(default_factory=dict)
    """The figures of each round, by (scenario, contender, what)."""
    numbers: dict[tuple[str, str], float] = field(default_factory=dict)
    """Single numbers, by (scenario, name)."""
    left_out: list[str] = field(default_factory=list)
    """A sentence for each skipped part."""

    def add(self, scenario: str, contender: str, what: str, figure: Figure) -> None:
        self.figures.setdefault((scenario, contender, what), []).append(figure)

    def leave_out(self, sentence: str) -> None:
        if sentence not in self.left_out:
            self.left_out.append(sentence)

    def values(self, scenario: str, contender: str, what: str, attribute: str = "rate") -> list[float]:
        """One attribute of each round's figure; empty if not measured."""
        return [getattr(figure, attribute) for figure in self.figures.get((scenario, contender, what), [])]

    def median(self, scenario: str, contender: str, what: str, attribute: str = "rate") -> float | None:
        values = self.values(scenario, contender, what, attribute)
        return statistics.median(values) if values else None

    def ratio(self, one: tuple[str, str, str], other: tuple[str, str, str], attribute: str = "rate") -> float | None:
        """The ratio of one to the other; None unless both were measured.

        The median of the ratios of the rounds, because the machine's speed changes more between rounds than within one.
        """
        pairs = zip(self.values(*one, attribute), self.values(*other, attribute), strict=False)
        ratios = [above / below for above, below in pairs if below]
        return statistics.median(ratios) if ratios else None

    def write(self, path: Path, goals: list[dict[str, Any]]) -> None:
        """Write everything as JSON."""
        figures = [
            {"scenario": key[0], "contender": key[1], "what": key[2], "rounds": [asdict(figure) for figure in found]}
            for key, found in self.figures.items()
        ]
        numbers = [{"scenario": key[0], "name": key[1], "value": value} for key, value in self.numbers.items()]
        whole = {"machine": self.machine, "goals": goals, "figures": figures, "numbers": numbers}
        path.write_text(json.dumps({**whole, "left_out": self.left_out}, indent=1) + "\n")
