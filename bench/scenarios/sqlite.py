"""SQLite with synchronous=FULL: creates at 64 in flight against a commit for each call."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.calls import CREATE, write_bodies
from bench.contenders import ONE_WORKER, UNCOALESCED, Contender, running
from bench.load import LoadFailed, generate, pressure
from bench.measure import Run, Target
from bench.results import Figure, Results
from bench.scenarios.methods import IN_FLIGHT

NAME = "sqlite"


def measure(run: Run, results: Results) -> None:
    with ExitStack() as stack:
        found = [stack.enter_context(_target(run, contender)) for contender in (ONE_WORKER, UNCOALESCED)]
        for in_flight in (1, IN_FLIGHT):
            for each in found:
                _creates(each, in_flight, run.warm_up)
            for each in run.turns(found):
                figure = _creates(each, in_flight, run.seconds)
                results.add(NAME, each.contender.name, f"{CREATE.method} {in_flight}", figure)
    results.numbers[NAME, "commits a second of one connection, without any server"] = _bare_commits(run)


@contextmanager
def _target(run: Run, contender: Contender) -> Iterator[Target]:
    path = run.folder / f"{contender.name}.db"
    with running(contender, f"sqlite:///{path}") as server:
        yield Target(run, contender, server, str(path), 0)
    for each in run.folder.glob(f"{path.name}*"):
        each.unlink()


def _creates(found: Target, in_flight: int, seconds: float) -> Figure:
    bodies = found.run.folder / "create"
    write_bodies(CREATE, bodies, 0)
    before = _rows(found.database)
    with found.accounted() as used:
        load = generate(found.server.address, CREATE.path, CREATE.user, bodies, pressure(in_flight), seconds)
    made = _rows(found.database) - before
    if load.failed or made != load.requests:
        raise LoadFailed(f"SQLite: {load.requests} responses, {made} rows, {load.statuses} {load.cause}")
    return found.figure(load, used)


def _rows(path: str) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute("SELECT count(*) FROM tasks").fetchone()[0])


def _bare_commits(run: Run) -> float:
    """Measure the limit of the disk: commits of one row each, on one connection."""
    path = run.folder / "bare.db"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, content TEXT)")
        start, count = time.perf_counter(), 0
        while (taken := time.perf_counter() - start) < min(1.0, run.seconds):
            connection.execute("INSERT INTO rows (content) VALUES (?)", ["x" * 200])
            count += 1
    finally:
        connection.close()
    for each in run.folder.glob(f"{path.name}*"):
        each.unlink()
    return count / taken
