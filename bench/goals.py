"""The goals, and the distance of a run from them. A missed goal fails no run, because machines differ."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.contenders import EMPTY, EVERY, ONE_WORKER, PGX, REPLACED, TEXTBOOK, UNCOALESCED, WORKERS
from bench.results import Results
from bench.scenarios import client, curve, growth, identity, methods, rest, sqlite

GET, CREATE, LIST, UPDATE, COMPLETE, DELETE = EVERY


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for a result."""

    text: str
    at_least: bool
    bound: float
    found: Callable[[Results], float | None]
    unit: str = "x"

    def judged(self, results: Results) -> dict[str, Any]:
        """Compare with the results: in words for the table, in numbers for the JSON."""
        value = self.found(results)
        bound = f"{'at least' if self.at_least else 'at most'} {self.bound:g}{self.unit}"
        if value is None:
            return {"goal": self.text, "bound": bound, "found": None, "verdict": "not measured"}
        met = value >= self.bound if self.at_least else value <= self.bound
        missed = abs(value - self.bound) / self.bound if self.bound else value
        verdict = "met" if met else f"missed by {missed:.0%}" if self.bound else f"missed by {missed:g}"
        return {"goal": self.text, "bound": bound, "found": round(value, 3), "verdict": verdict}


def judged(results: Results) -> list[dict[str, Any]]:
    """Every goal with its result."""
    return [goal.judged(results) for goal in _goals()]


def _goals() -> Iterator[Goal]:
    yield from _beside_the_ceiling()
    yield from _beside_peers()
    yield Goal("SQL statements per 1,000 calls, 64 in flight, worst method", False, 60, _most_statements, "")
    yield Goal("p50, 1 to 16 in flight, relative to uncoalesced, worst case", False, 1.05, _worst_time)
    yield Goal("req/s, 1 to 256 in flight, relative to uncoalesced, worst case", True, 1.0, _worst_rate)
    for method in (GET, CREATE, LIST):
        yield Goal(f"{method}, p99 relative to p50, open loop at 70 % of peak", False, 3, _tail(method))
    yield Goal("failures other than RESOURCE_EXHAUSTED, 2,000 calls in flight", False, 0, _connections_failures, "")
    for method in (GET, CREATE, LIST):
        yield Goal(f"{method}, req/s on the small table relative to the large one", False, 1.2, _growth(method))
    tokens = (identity.TOKENS, identity.WITH_TOKENS.name, GET)
    metadata = (identity.TOKENS, ONE_WORKER.name, GET)
    yield Goal(
        f"{GET} with a known token, CPU relative to metadata",
        False,
        1.1,
        lambda run: run.ratio(tokens, metadata, "cpu"),
    )
    over_rest = (rest.NAME, rest.REST.name, GET)
    replaced, grpc = (rest.NAME, f"{REPLACED.name}-best", GET), (rest.NAME, ONE_WORKER.name, GET)
    text = f"GET over REST, req/s relative to {REPLACED.label} at its best"
    yield Goal(text, True, 5, lambda run: run.ratio(over_rest, replaced))
    yield Goal("GET over REST, CPU relative to gRPC", False, 1.25, lambda run: run.ratio(over_rest, grpc, "cpu"))
    yield Goal("p99 of a caller during a flood relative to alone, with a rate limit", False, 2, _flooded)
    yield Goal("Python client, p50 relative to the bare stub, worse kind", False, 1.05, _client)
    yield Goal("SQLite, creates at 64 in flight relative to uncoalesced", True, 10, _sqlite)
    yield Goal("largest worker, up to 256 calls in flight", False, 160, _memory(many=False), " MiB")
    yield Goal("largest worker, 2,000 calls in flight", False, 160, _memory(many=True), " MiB")


def _beside_the_ceiling() -> Iterator[Goal]:
    for method, share in ((GET, 0.80), (CREATE, 0.65), (UPDATE, 0.55), (COMPLETE, 0.55), (DELETE, 0.55), (LIST, 0.35)):
        yield Goal(
            f"{method}, 64 in flight, req/s relative to an empty handler",
            True,
            share,
            _ratio(ONE_WORKER.name, EMPTY.name, method),
        )
        if method == GET:
            cpu = _ratio(ONE_WORKER.name, EMPTY.name, method, "cpu")
            yield Goal(f"{method}, 64 in flight, CPU relative to an empty handler", False, 1.25, cpu)


def _beside_peers() -> Iterator[Goal]:
    for method, times in ((GET, 8), (CREATE, 12), (LIST, 3)):
        best = _ratio(ONE_WORKER.name, f"{REPLACED.name}-best", method)
        yield Goal(f"{method}, req/s relative to {REPLACED.label} at its best", True, times, best)
    for method in (GET, CREATE):
        yield Goal(
            f"{method}, req/s relative to the textbook server", True, 6, _ratio(ONE_WORKER.name, TEXTBOOK.name, method)
        )
    for method, share in ((CREATE, 1.0), (GET, 0.5)):
        yield Goal(
            f"{method}, workers = cores, req/s relative to grpc-go + pgx",
            True,
            share,
            _ratio(WORKERS.name, PGX.name, method),
        )
    share_of_database = _ratio(WORKERS.name, "pgbench", CREATE)
    yield Goal(f"{CREATE}, workers = cores, req/s relative to pgbench", True, 0.45, share_of_database)


def _ratio(one: str, other: str, method: str, attribute: str = "rate") -> Callable[[Results], float | None]:
    return lambda results: results.ratio((methods.NAME, one, method), (methods.NAME, other, method), attribute)


def _most_statements(results: Results) -> float | None:
    return max((value for (scenario, _), value in results.numbers.items() if scenario == "statements"), default=None)


def _to_uncoalesced(results: Results, attribute: str, in_flight: tuple[int, ...]) -> list[float]:
    keys = [f"{method} {count}" for method in (GET, CREATE) for count in in_flight]
    found = [
        results.ratio((curve.NAME, ONE_WORKER.name, key), (curve.NAME, UNCOALESCED.name, key), attribute)
        for key in keys
    ]
    return [each for each in found if each is not None]


def _worst_time(results: Results) -> float | None:
    return max(_to_uncoalesced(results, "p50", (1, 2, 4, 8, 16)), default=None)


def _worst_rate(results: Results) -> float | None:
    return min(_to_uncoalesced(results, "rate", curve.IN_FLIGHT), default=None)


def _tail(method: str) -> Callable[[Results], float | None]:
    def found(results: Results) -> float | None:
        p50 = results.median("latency", ONE_WORKER.name, method, "p50")
        p99 = results.median("latency", ONE_WORKER.name, method, "p99")
        return p99 / p50 if p99 is not None and p50 else None

    return found


def _connections_failures(results: Results) -> float | None:
    found = [
        value for key, value in results.numbers.items() if key[0] == "connections" and key[1].endswith("other failures")
    ]
    return sum(found) if found else None


def _growth(method: str) -> Callable[[Results], float | None]:
    return lambda results: results.ratio((growth.NAME, growth.SMALL, method), (growth.NAME, growth.LARGE, method))


def _flooded(results: Results) -> float | None:
    found = [
        value
        for (scenario, name), value in results.numbers.items()
        if scenario == identity.FLOOD and name.startswith(identity.LIMITED.label)
    ]
    return max(found, default=None)


def _client(results: Results) -> float | None:
    calls = [f"GetTask, {kind}" for kind in client.KINDS]
    found = [
        results.ratio((client.NAME, client.WRAPPED, call), (client.NAME, client.STUB, call), "p50") for call in calls
    ]
    return max((each for each in found if each is not None), default=None)


def _sqlite(results: Results) -> float | None:
    key = f"{CREATE} {methods.IN_FLIGHT}"
    return results.ratio((sqlite.NAME, ONE_WORKER.name, key), (sqlite.NAME, UNCOALESCED.name, key))


def _memory(*, many: bool) -> Callable[[Results], float | None]:
    """The largest resident set of any worker: in the scenario `connections`, or in all others."""

    def found(results: Results) -> float | None:
        workers = (ONE_WORKER.name, WORKERS.name)
        figures = (
            figure
            for (scenario, contender, _), rounds in results.figures.items()
            if contender in workers and (scenario == "connections") is many
            for figure in rounds
        )
        return max((figure.memory for figure in figures), default=None)

    return found
