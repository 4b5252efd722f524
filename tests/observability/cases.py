"""The twelve cases that have a runbook, each as a real fault of a real server, and the alert that must find it."""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from tests import messages
from tests.auth.issuing import AUDIENCE, ISSUER
from tests.faults import cluster_faults, database_faults, own_systems, sqlite_faults
from tests.faults.fault import Injection
from tests.faults.own_system import missing_mounts
from tests.faults.ports import free_port
from tests.faults.system import POSTGRESQL, SQLITE, System, running_system
from tests.messages import Rule
from tests.observability.flood import flooded
from tests.observability.load import as_user, insecure, loaded
from tests.proxy import Proxy
from tests.tls.issuing import HOSTS, Authority, Files, secure_channel

_ALWAYS = 10**9
_BIND = b"B"
"""The kind of the message with which a client sends the parameters of a statement."""
_TIMES = 3
"""How often a worker is hit: as often as it takes until somebody is woken."""


@dataclass
class Watched:
    """A running system whose metrics can be scraped."""

    system: System
    metrics_address: str


@dataclass(frozen=True)
class Case:
    """A fault, and the alert that finds it. Leaving `start` stops the server, leaving `inject` heals it."""

    name: str
    alert: tuple[str, str]
    """Name and severity."""
    start: Callable[[], AbstractContextManager[Watched]]
    inject: Callable[[Watched], AbstractContextManager[object]]
    load: Callable[[Watched], AbstractContextManager[object]]
    missing: str | None = None
    """Why it cannot be caused on this machine."""


@contextmanager
def watched(
    settings: Mapping[str, str], kind: str = POSTGRESQL, options: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[Watched]:
    """Run two workers, and say where to scrape them. The options are of `running_system`."""
    address = f"127.0.0.1:{free_port()}"
    values = {"WORKERS": "2", "METRICS_ADDRESS": address, "LOG_LEVEL": "info", **settings}
    with running_system(kind, settings=values, **options) as system:
        yield Watched(system, address)


def _ordinary(watched: Watched) -> AbstractContextManager[None]:
    """A load of eight users, whose deadlines are short so that a case does not take long."""
    return loaded(insecure(watched.system.server.address), deadline=2.0)


def _proxy(watched: Watched) -> Proxy:
    assert watched.system.proxy
    return watched.system.proxy


def _by_proxy(act: Callable[[Proxy], None]) -> Callable[[Watched], AbstractContextManager[object]]:
    @contextmanager
    def injected(watched: Watched) -> Iterator[None]:
        act(_proxy(watched))
        yield

    return injected


def _slowed(seconds: float) -> Callable[[Proxy], None]:
    """Hold each statement for some time on its way to the database."""
    return lambda proxy: proxy.apply(Rule((_BIND,), messages.delay(seconds), times=_ALWAYS))


def _with_admin(watched: Watched) -> psycopg.Connection[Any]:
    return psycopg.connect(watched.system.admin_url, autocommit=True)


@contextmanager
def _row_locked(watched: Watched) -> Iterator[None]:
    """Lock the row of a task, which its user goes on to update."""
    address, user = watched.system.server.address, (("x-user-id", "user-locked"),)
    with insecure(address)() as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        task = stub.CreateTask(tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="Buy milk")), metadata=user)
        update = tasks_pb2.UpdateTaskRequest(task=tasks_pb2.Task(id=task.id, title="Buy oat milk"))

        def call(stub: Any) -> Any:
            return stub.UpdateTask(update, metadata=user, timeout=1.0)

        with _with_admin(watched) as admin, admin.transaction():
            admin.execute("SELECT 1 FROM tasks WHERE id = %s FOR UPDATE", (task.id,))
            with flooded(address, call, channels=1, outstanding=20):
                yield


@contextmanager
def caller_floods(watched: Watched, *, channels: int = 8, outstanding: int = 64) -> Iterator[None]:
    """One user calls as often as it can."""

    def call(stub: Any) -> Any:
        return stub.ListTasks(tasks_pb2.ListTasksRequest(), metadata=(("x-user-id", "user-flood"),), timeout=10.0)

    with flooded(watched.system.server.address, call, channels=channels, outstanding=outstanding):
        yield


def _workers(watched: Watched) -> list[int]:
    pid = watched.system.server.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _times_ready(watched: Watched) -> int:
    """How often a worker has become ready."""
    return watched.system.server.log.read_text().count('"worker ready"')


def worker_hit(number: signal.Signals, times: int = _TIMES) -> Callable[[Watched], AbstractContextManager[object]]:
    """Send a signal to a worker, and to the one that replaces it, and so on."""

    @contextmanager
    def hit(watched: Watched) -> Iterator[None]:
        _until(lambda: _times_ready(watched) >= len(_workers(watched)))
        for _ in range(times):
            ready = _times_ready(watched)
            os.kill(_workers(watched)[-1], number)
            _until(lambda: _times_ready(watched) > ready)  # noqa: B023 - called at once
        yield

    return hit


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the worker was not replaced"
        time.sleep(0.05)


@contextmanager
def _with_certificate() -> Iterator[Watched]:
    """A server whose certificate ends tomorrow."""
    authority = Authority()
    with tempfile.TemporaryDirectory(prefix="taskwell-tls-") as folder:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        files = Files(Path(folder), authority.issue(*HOSTS, not_after=tomorrow))
        settings = {name.upper(): value for name, value in files.settings.items()}
        with watched(settings) as running:
            (running.system.folder / "ca.pem").write_bytes(authority.pem)
            yield running


def _over_tls(watched: Watched) -> AbstractContextManager[None]:
    ca = (watched.system.folder / "ca.pem").read_bytes()
    return loaded(lambda: secure_channel(watched.system.server.address, ca), as_user)


def _without_issuer() -> AbstractContextManager[Watched]:
    """A server whose issuer does not respond to it: nothing listens there."""
    jwks = f"http://127.0.0.1:{free_port()}/jwks"
    return watched({"AUTH": "jwt", "JWT_JWKS": jwks, "JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE})


@contextmanager
def _nothing(_watched: Watched) -> Iterator[None]:
    """The fault is there from the start."""
    yield


def _of_system(fault: Injection) -> Callable[[Watched], AbstractContextManager[object]]:
    """A fault of `make faults`."""
    return lambda watched: fault(watched.system)


def _named(name: str) -> Callable[[Watched], AbstractContextManager[object]]:
    """A fault of PostgreSQL of `make faults`, by its name."""
    [fault] = [fault for fault in database_faults.FAULTS if fault.name == name]
    return _of_system(fault.inject)


def _on_small_disk(kind: str) -> Callable[[], AbstractContextManager[Watched]]:
    return lambda: watched({"LOG_LEVEL": "debug"}, kind, {"mount": own_systems.small_disk})


def _with(**settings: str) -> Callable[[], AbstractContextManager[Watched]]:
    return lambda: watched(settings)


def _page(name: str) -> tuple[str, str]:
    return f"Taskwell{name}", "page"


def _ticket(name: str) -> tuple[str, str]:
    return f"Taskwell{name}", "ticket"


@contextmanager
def _on_slow_way(watched: Watched) -> Iterator[None]:
    """The ordinary load on a database whose statements take 40 ms, which is well below the limit of the alert."""
    _slowed(0.04)(_proxy(watched))
    with _ordinary(watched):
        yield


@contextmanager
def _more_users(watched: Watched) -> Iterator[None]:
    with loaded(insecure(watched.system.server.address), threads=60, pause=0.0, deadline=10.0):
        yield


CASES = (
    Case("database slow", _page("DatabaseSlow"), _with(), _by_proxy(_slowed(0.3)), _ordinary),
    Case("table locked", _page("DatabaseLocked"), _with(), _of_system(database_faults.table_locked), _ordinary),
    Case("row locked", _page("DatabaseLocked"), _with(), _row_locked, _ordinary),
    Case(
        "file of SQLite locked",
        _page("DatabaseLocked"),
        lambda: watched({}, SQLITE),
        _of_system(sqlite_faults.file_locked),
        _ordinary,
    ),
    Case("database away", _page("DatabaseAway"), _with(), _by_proxy(Proxy.refuse), _ordinary),
    Case("no connection allowed", _page("DatabaseAway"), _with(), _named("no connection allowed"), _ordinary),
    Case("database read-only", _page("Errors"), _with(), _named("database read-only"), _ordinary),
    Case("database silent", _page("DatabaseSilent"), _with(), _by_proxy(Proxy.hold), _ordinary),
    Case(
        "pool exhausted",
        _page("PoolExhausted"),
        _with(WORKERS="1", DATABASE_POOL_SIZE="1", DATABASE_MAX_OVERFLOW="0"),
        _more_users,
        _on_slow_way,
    ),
    Case("a caller floods, with a limit", _ticket("RateLimiting"), _with(RATE_LIMIT="50"), caller_floods, _ordinary),
    Case(
        "a caller floods, without a limit",
        _page("Overloaded"),
        _with(WORKERS="1", MAX_IN_FLIGHT="4"),
        caller_floods,
        _on_slow_way,
    ),
    Case("a worker dies", _page("WorkerDying"), _with(), worker_hit(signal.SIGKILL), _ordinary),
    Case("a worker hangs", _page("WorkerHanging"), _with(WORKER_TIMEOUT="3"), worker_hit(signal.SIGSTOP), _ordinary),
    Case("certificate ends", _page("CertificateEnding"), _with_certificate, _nothing, _over_tls),
    Case("keys unreachable", _page("KeysUnreachable"), _without_issuer, _nothing, _ordinary),
    Case(
        "disk full (SQLite and log)",
        _page("DiskFull"),
        _on_small_disk(SQLITE),
        _of_system(own_systems.disk_full),
        _ordinary,
        missing_mounts(),
    ),
    Case(
        "disk full (tables of PostgreSQL)",
        _page("DiskFull"),
        lambda: watched({}, POSTGRESQL, {"servers": cluster_faults.on_small_tablespace}),
        _of_system(cluster_faults.filled("space")),
        _ordinary,
        missing_mounts(),
    ),
    Case(
        "disk full (log only)",
        _ticket("LogLinesDropped"),
        _on_small_disk(POSTGRESQL),
        _of_system(own_systems.disk_full),
        _ordinary,
        missing_mounts(),
    ),
)
BY_NAME: Mapping[str, Case] = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Outcome:
    """What fired: with the server well, and once the fault was there."""

    before: frozenset[tuple[str, str]]
    after: frozenset[tuple[str, str]]
    seconds: float | None
    """The time from the fault until its alert fired; None if it did not."""


def run(case: Case, *, limit: float = 60.0, calm: float = 3.0, after: float = 3.0) -> Outcome:
    """Cause a fault under load, and see which alerts fire until a moment after its own does."""
    from tests.observability.prometheus import hasty_rules, running_prometheus

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskwell-prometheus-")))
        running = stack.enter_context(case.start())
        prometheus = stack.enter_context(
            running_prometheus(folder, [running.metrics_address], rules=hasty_rules(folder))
        )
        stack.enter_context(case.load(running))
        seen: set[tuple[str, str]] = set()

        def watch(seconds: float, *, until_fired: bool) -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end and not (until_fired and case.alert in seen):
                seen.update(prometheus.firing())
                time.sleep(0.1)

        _until(lambda: bool(prometheus.query("taskwell_build_info")))
        _until(lambda: _page("Down") not in prometheus.firing())  # Prometheus evaluates rules before its first scrape
        if case.inject is not _nothing:
            watch(calm, until_fired=False)
        before = frozenset(seen)
        begun = time.monotonic()
        with case.inject(running):
            watch(limit, until_fired=True)
            seconds = time.monotonic() - begun if case.alert in seen else None
            watch(after, until_fired=False)
    return Outcome(before, frozenset(seen), seconds)


TIMING = frozenset({"TaskwellDatabaseSlow", "TaskwellLatency", "TaskwellPoolExhausted"})
"""Alerts that a machine without CPU causes as well."""


def complaints(case: Case, outcome: Outcome, ignored: frozenset[str] = frozenset()) -> list[str]:
    """What is wrong with an outcome: pages that should not be, or no alert."""
    found = [
        f"{name} fired without a fault"
        for name, severity in outcome.before
        if severity == "page" and name not in ignored
    ]
    if outcome.seconds is None:
        found.append(f"{case.alert[0]} did not fire")
    others = {each for each in outcome.after if each[1] == "page" and each[0] not in ignored} - {case.alert}
    return found + [f"{name} fired as well" for name, _ in sorted(others)]
