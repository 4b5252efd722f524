"""The main table: every method of every contender at 64 calls in flight, in rounds that take each contender once."""

import re
import shutil
import subprocess
from pathlib import Path

from bench.calls import CALLS, CREATE, GET, LIST, PAGE
from bench.contenders import (
    EMPTY,
    ONE_WORKER,
    PGX,
    REPLACED,
    TEXTBOOK,
    UNCOALESCED,
    WORKERS,
    Contender,
)
from bench.database import READER, WRITER, fill, make_tables, task_id
from bench.load import Load, LoadFailed, Pressure, Unavailable, h2load, pressure
from bench.machine import cores
from bench.measure import Figure, Run, Target, target
from bench.results import Results

NAME = "methods"
IN_FLIGHT = 64
_STANDSTILL = 35  # s; more than the 30 s that SQLAlchemy's pool lets a thread wait
_PROBED = (4, 8, 16)  # connections at which the server that keeps one thread a call may be at its best

_SELECT = f"""\\set n random(1, 1000)
SELECT user_id, id, title, description, status, version, created_at, updated_at, completed_at FROM tasks
WHERE user_id = '{READER}' AND id = ('00000000-0000-7000-8000-' || lpad((:n)::text, 12, '0'))::uuid;
"""
_INSERT = f"""INSERT INTO tasks (user_id, id, title, description, status, version, created_at, updated_at)
VALUES ('{WRITER}', gen_random_uuid(), 'Task 1 of the benchmark',
  'Sixty characters or so of what there is to do about it, and why.', 1, 1, now(), now());
"""


def measure(run: Run, results: Results) -> None:
    best = best_connections(run, results)
    for _ in range(run.rounds):
        for contender in (EMPTY, ONE_WORKER, WORKERS, UNCOALESCED, TEXTBOOK, PGX):
            _all_methods(run, results, contender)
        if best:
            _replaced(run, results, best)
        _pgbench(run, results)
    if best and not run.quick:
        _replaced_too_busy(run, results)


def _all_methods(run: Run, results: Results, contender: Contender) -> None:
    try:
        with target(run, contender) as found:
            for call in CALLS:
                if call.method in contender.methods:
                    try:
                        results.add(NAME, contender.name, call.method, found.measure(call, pressure(IN_FLIGHT)))
                    except Unavailable as missing:
                        results.leave_out(f"{call.method}: {missing}")
    except Unavailable as missing:
        results.leave_out(f"{contender.label}: {missing}")


def best_connections(run: Run, results: Results) -> int | None:
    """At how many connections the server that Taskwell replaces answers most; None if it cannot be had."""
    try:
        with target(run, REPLACED) as found:
            rates = {count: over_http(found, GET.method, count, run.warm_up).rate for count in _PROBED}
    except Unavailable as missing:
        results.leave_out(f"{REPLACED.label}: {missing}")
        return None
    best = max(rates, key=lambda count: rates[count])
    results.numbers[NAME, f"connections at which {REPLACED.label} is at its best"] = best
    return best


def _replaced(run: Run, results: Results, connections: int) -> None:
    with target(run, REPLACED) as found:
        for method in (GET.method, CREATE.method, LIST.method):
            over_http(found, method, connections, run.warm_up)
            with found.accounted() as used:
                load = over_http(found, method, connections, run.seconds)
            if load.failed:
                results.leave_out(f"{REPLACED.label}, {method}: {load.failed} of {load.requests} calls failed")
            else:
                results.add(NAME, f"{REPLACED.name}-best", method, found.figure(load, used))


def _replaced_too_busy(run: Run, results: Results) -> None:
    """At 64 connections its threads wait for its own pool, until the pool's timeout makes them fail: so for longer."""
    name = f"{REPLACED.name}-{IN_FLIGHT}"
    for method in (GET.method, CREATE.method):
        with target(run, REPLACED) as found:
            with found.accounted() as used:
                load = over_http(found, method, IN_FLIGHT, max(run.seconds, _STANDSTILL))
            results.add(NAME, name, method, found.figure(load, used))
            results.numbers[NAME, f"{name} {method}: HTTP errors"] = load.failed


def over_http(found: Target, method: str, connections: int, seconds: float) -> Load:
    """The method in its JSON form, one call at a time on each connection."""
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


def _pgbench(run: Run, results: Results) -> None:
    program = run.postgres.program("pgbench") or _installed_pgbench()
    if program is None:
        results.leave_out("pgbench: it is missing; install Debian's package postgresql-contrib")
        return
    with run.postgres.fresh() as database:
        make_tables(database)
        fill(database, 0)
        for method, script in ((GET.method, _SELECT), (CREATE.method, _INSERT)):
            path = run.folder / "pgbench.sql"
            path.write_text(script)
            results.add(NAME, "pgbench", method, _transactions(run, program, database, path))


def _installed_pgbench() -> Path | None:
    on_path = shutil.which("pgbench")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    return found[-1] if found else Path(on_path) if on_path else None


def _transactions(run: Run, program: Path, database: str, script: Path) -> Figure:
    """The script over and over by 64 clients, prepared."""
    seconds = max(1, round(run.seconds))
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
