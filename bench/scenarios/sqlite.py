"""SQLite with synchronous=FULL: creates at 64 in flight against a commit for each call."""

import sqlite3
import time
from pathlib import Path

from bench.calls import CREATE, write_bodies
from bench.contenders import ONE_WORKER, UNCOALESCED, Contender, running
from bench.load import LoadFailed, Unavailable, generate, pressure
from bench.measure import Run, Target
from bench.results import Results
from bench.scenarios.methods import IN_FLIGHT

NAME = "sqlite"


def measure(run: Run, results: Results) -> None:
    for _ in range(run.rounds):
        for contender in (ONE_WORKER, UNCOALESCED):
            try:
                _creates(run, results, contender)
            except Unavailable as missing:
                results.leave_out(f"{contender.label}: {missing}")
        results.numbers[NAME, "commits a second of one connection, without any server"] = _bare_commits(run)


def _creates(run: Run, results: Results, contender: Contender) -> None:
    path = run.folder / f"{contender.name}.db"
    bodies = run.folder / "create"
    write_bodies(CREATE, bodies, 0)
    with running(contender, f"sqlite:///{path}") as server:
        found = Target(run, contender, server, "", 0)
        for in_flight in (1, IN_FLIGHT):
            under = pressure(in_flight)
            generate(server.address, CREATE.path, CREATE.user, bodies, under, run.warm_up)
            before = _rows(path)
            with found.accounted() as used:
                load = generate(server.address, CREATE.path, CREATE.user, bodies, under, run.seconds)
            made = _rows(path) - before
            if load.failed or made != load.requests:
                raise LoadFailed(f"SQLite: {load.requests} answers, {made} rows, {load.statuses} {load.cause}")
            results.add(NAME, contender.name, f"{CREATE.method} {in_flight}", found.figure(load, used))
    for each in run.folder.glob(f"{path.name}*"):
        each.unlink()


def _rows(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute("SELECT count(*) FROM tasks").fetchone()[0])


def _bare_commits(run: Run) -> float:
    """What the disk allows: one row a commit, as fast as one connection can."""
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
