"""A small beside a large table: 1,000 tasks of 1 user, 1,000,000 tasks of 100,000 users."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
from taskwell.v1 import tasks_pb2

from bench.calls import CREATE, GET, LIST, Call, frame
from bench.contenders import ONE_WORKER, running
from bench.database import make_tables, settle
from bench.load import LoadFailed, generate, pressure
from bench.measure import Run, Target
from bench.results import Figure, Results
from bench.scenarios.methods import IN_FLIGHT

NAME = "growth"
SMALL, LARGE = "small table", "large table"
FIRST = "user-1"  # has a thousand tasks in both tables; its first page is listed
_SAMPLE = 20_000  # random calls, each for another task

_USERS = "INSERT INTO users (id, created_at) SELECT 'user-' || n, now() FROM generate_series(1, %(users)s::int) AS n"
_TASKS = """
INSERT INTO tasks (user_id, id, title, description, status, version, created_at, updated_at)
SELECT 'user-' || CASE WHEN n <= 1000 THEN 1 ELSE 1 + n %% %(users)s::int END,
  ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'Task ' || n || ' of the benchmark',
  'Sixty characters or so of what there is to do about it, and why.', 1, 1, at, at
FROM generate_series(1, %(tasks)s::int) AS n, LATERAL (SELECT now() - n * interval '1 s' AS at) AS t
"""
_DRAWN = "SELECT user_id, id::text FROM tasks ORDER BY random() LIMIT %s"


@dataclass(frozen=True, slots=True)
class Table:
    """A filled database, and files of calls for random tasks."""

    name: str
    database: str
    bodies: Path
    users: Path


def measure(run: Run, results: Results) -> None:
    shrink = 50 if run.quick else 1
    with ExitStack() as stack:
        tables = []
        for name, users, tasks in ((SMALL, 1, 1_000), (LARGE, 100_000 // shrink, 1_000_000 // shrink)):
            tables.append(_fill(run, name, stack.enter_context(run.postgres.fresh()), users, tasks))
            results.numbers[NAME, f"{name}: tasks"] = tasks
            results.numbers[NAME, f"{name}: users"] = users
        found = [
            (
                Target(run, ONE_WORKER, stack.enter_context(running(ONE_WORKER, table.database)), table.database, 0),
                table,
            )
            for table in tables
        ]
        for call in (GET, CREATE, LIST):
            for target, table in found:
                _load(target, table, call, run.warm_up)
            for target, table in run.turns(found):
                results.add(NAME, table.name, call.method, _load(target, table, call, run.seconds))


def _fill(run: Run, name: str, database: str, users: int, tasks: int) -> Table:
    make_tables(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(_USERS, {"users": users})
        connection.execute(_TASKS, {"users": users, "tasks": tasks})
        settle(connection)
        drawn = connection.execute(_DRAWN, [_SAMPLE]).fetchall()
    table = Table(name, database, run.folder / f"bodies-{users}", run.folder / f"users-{users}")
    table.bodies.write_bytes(b"".join(frame(tasks_pb2.GetTaskRequest(id=each)) for _, each in drawn))
    table.users.write_text("\n".join(user for user, _ in drawn))
    return table


def _load(found: Target, table: Table, call: Call, seconds: float) -> Figure:
    """Measure reads and writes of random users, and lists of the user who is in both tables."""
    bodies = table.bodies if call is GET else found.bodies(call, 0)[0]
    users = None if call is LIST else table.users
    address, under = found.server.address, pressure(IN_FLIGHT)
    with found.accounted() as used:
        load = generate(address, call.path, FIRST, bodies, under, seconds, users=users)
    if load.failed:
        raise LoadFailed(f"{table.name}, {call.method}: {load.statuses} {load.cause}")
    return found.figure(load, used)
