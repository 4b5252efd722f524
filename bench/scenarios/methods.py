"""The main table: every method of every contender at 64 calls in flight."""

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.calls import CALLS, CREATE, GET, LIST, PAGE, Call
from bench.contenders import (
    EMPTY,
    ONE_WORKER,
    PGX,
    REPLACED,
    TEXTBOOK,
    UNCOALESCED,
    WORKERS,
)
from bench.database import READER, WRITER, fill, make_tables, task_id
from bench.load import Load, LoadFailed, Pressure, Unavailable, h2load, pressure
from bench.machine import cores
from bench.measure import Run, Target, target, targets
from bench.results import Figure, Results

NAME = "methods"
CONTENDERS = (EMPTY, ONE_WORKER, WORKERS, UNCOALESCED, TEXTBOOK, PGX, REPLACED)
IN_FLIGHT = 64
_STANDSTILL = 35  # s; more than the 30 s of SQLAlchemy's pool timeout
_PROBED = (4, 8, 16)  # connections at which a server with a thread per call may be fastest

_SELECT = f"""\\set n random(1, 1000)
SELECT user_id, id, title, description, status, version, created_at, updated_at, completed_at FROM tasks
WHERE user_id = '{READER}' AND id = ('00000000-0000-7000-8000-' || lpad((:n)::text, 12, '0'))::uuid;
"""
_INSERT = f"""INSERT INTO tasks (user_id, id, title, description, status, version, created_at, updated_at)
VALUES ('{WRITER}', gen_random_uuid(), 'Task 1 of the benchmark',
  'Sixty characters or so of what there is to do about it, and why.', 1, 1, now(), now());
"""


@dataclass(frozen=True, slots=True)
class _Way:
    """One method of one contender."""

    name: str
    load: Callable[[float], Figure]
    """Measures it for a number of seconds."""


def measure(run: Run, results: Results) -> None:
    with targets(run, results, CONTENDERS) as found, run.postgres.fresh() as database:
        best = best_connections(run, results, found)
        make_tables(database)
        fill(database, 0)
        scripts = _scripts(run, results)
        for call in CALLS:
            ways = [_way(each, call, best) for each in found if call.method in each.contender.methods]
            if call.method in scripts:
                ways.append(_Way("pgbench", partial(_transactions, run, database, *scripts[call.method])))
            _in_turns(run, results, call, ways)
    if best and not run.quick:
        _replaced_too_busy(run, results)


def _in_turns(run: Run, results: Results, call: Call, ways: Sequence[_Way]) -> None:
    try:
        for way in ways:
            way.load(run.warm_up)
        for way in run.turns(ways):
            results.add(NAME, way.name, call.method, way.load(run.seconds))
    except Unavailable as missing:
        results.leave_out(f"{call.method}: {missing}")


def _way(found: Target, call: Call, connections: int) -> _Way:
    if found.contender is REPLACED:
        return _Way(f"{REPLACED.name}-best", partial(figure_over_http, found, call.method, connections))
    return _Way(found.contender.name, lambda seconds: found.load(call, pressure(IN_FLIGHT), seconds)[1])


def best_connections(run: Run, results: Results, found: Sequence[Target]) -> int:
    """The number of connections at which the replaced server is fastest; 0 if it is not available."""
    replaced = next((each for each in found if each.contender is REPLACED), None)
    if not replaced:
        return 0
    rates = {count: over_http(replaced, GET.method, count, run.warm_up).rate for count in _PROBED}
    best = max(rates, key=lambda count: rates[count])
    results.numbers[NAME, f"connections at which {REPLACED.label} is at its best"] = best
    return best


def figure_over_http(found: Target, method: str, connections: int, seconds: float) -> Figure:
    with found.accounted() as used:
        load = over_http(found, method, connections, seconds)
    if load.failed:
        raise LoadFailed(f"{REPLACED.label}, {method}: {load.failed} of {load.requests} calls failed")
    return found.figure(load, used)


def _replaced_too_busy(run: Run, results: Results) -> None:
    """Measure it at 64 connections for longer than its pool's timeout, because its threads wait for that pool."""
    name = f"{REPLACED.name}-{IN_FLIGHT}"
    for method in (GET.method, CREATE.method):
        with target(run, REPLACED) as found:
            with found.accounted() as used:
                load = over_http(found, method, IN_FLIGHT, max(run.seconds, _STANDSTILL))
            results.add(NAME, name, method, found.figure(load, used))
            results.numbers[NAME, f"{name} {method}: HTTP errors"] = load.failed


def over_http(found: Target, method: str, connections: int, seconds: float) -> Load:
    """Measure the JSON form of the method, one request at a time on each connection."""
    tasks = f"http://{found.server.address}/api/tasks"
    under = Pressure(connections, 1)
    user = {GET.method: GET.user, CREATE.method: CREATE.user, LIST.method: LIST.user}[method]
    options = ["--h1", "-H", f"x-user-id: {user}"]
    if method == GET.method:
        return h2load(f"{tasks}/{task_id(1)}", under, seconds, *options)
    if method == LIST.method:
        return h2load(f"{tasks}?limit={PAGE}", under, seconds, *options)
    body = found.run.folder / "task.json"
    body.write_text(
        '{"title": "Task 1 of the benchmark", '
        '"description": "Sixty characters or so of what there is to do about it, and why."}'
    )
    return h2load(tasks, under, seconds, *options, "-H", "content-type: application/json", body=body)


def _scripts(run: Run, results: Results) -> dict[str, tuple[Path, Path]]:
    """pgbench and its script for each method that it supports; none if it is not available."""
    program = run.postgres.program("pgbench") or _installed_pgbench()
    if program is None:
        results.leave_out("pgbench: it is missing; install Debian's package postgresql-contrib")
        return {}
    scripts = {}
    for method, script in ((GET.method, _SELECT), (CREATE.method, _INSERT)):
        path = run.folder / f"{method}.sql"
        path.write_text(script)
        scripts[method] = program, path
    return scripts


def _installed_pgbench() -> Path | None:
    on_path = shutil.which("pgbench")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    return found[-1] if found else Path(on_path) if on_path else None


def _transactions(run: Run, database: str, program: Path, script: Path, seconds: float) -> Figure:
    """Run the script with 64 clients and prepared statements."""
    seconds = max(1, round(seconds))  # it takes whole ones
    clients = [f"-c{IN_FLIGHT}", f"-j{cores()}", "-Mprepared", "-n"]
    before = run.postgres.cpu_seconds()
    ran = subprocess.run(
        [str(program), *clients, f"-T{seconds}", "-f", str(script), database],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    tps, done = re.search(r"tps = ([\d.]+)", ran.stdout), re.search(r"actually processed: (\d+)", ran.stdout)
    if ran.returncode or not tps or not done or "number of failed transactions: 0 " not in ran.stdout:
        raise LoadFailed(f"pgbench failed: {ran.stderr or ran.stdout}")
    used = run.postgres.cpu_seconds() - before
    return Figure(float(tps[1]), cpu=0.0, database_cpu=used / int(done[1]) * 1e6, memory=0.0)
