"""Faults of whole PostgreSQL servers, which need servers of their own: failover, full disks, passwords."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from tests.faults.campaign import SETTINGS
from tests.faults.cluster import TIMEOUT, Node, nodes
from tests.faults.fault import PGBOUNCER, POSTGRESQL, Fault
from tests.faults.own_system import OwnSystem, missing_mounts
from tests.faults.system import ROLE, Servers, System, running_system
from tests.proxy import Proxy

_POSTGRES, _BOTH = frozenset({POSTGRESQL}), frozenset({POSTGRESQL, PGBOUNCER})
_DISK = "96m"
"""Size of a small disk for a whole server: some 60 MB are its own."""
_TABLESPACE = "4m"
"""Size of a small disk for the tables alone."""
_CONNECTIONS = 24
"""What a server with few connections allows."""
_PASSWORDS = ("first", "second")


@contextmanager
def _replicated() -> Iterator[Sequence[Node]]:
    with nodes("a", "b") as (primary, standby):
        primary.create()
        primary.start()
        _follow(primary, standby)
        yield primary, standby


def _follow(primary: Node, standby: Node) -> None:
    """Make a standby anew, which the primary then waits for at each commit."""
    primary.execute("ALTER SYSTEM RESET synchronous_standby_names")
    standby.stop()
    standby.clone(primary)
    standby.start()
    deadline = time.monotonic() + TIMEOUT
    while not primary.execute("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"):
        assert time.monotonic() < deadline, "the standby does not follow"
        time.sleep(0.05)
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.execute("SELECT pg_reload_conf()")


def _promote(standby: Node) -> None:
    """Make a primary of a standby, which then waits for nobody."""
    standby.execute("ALTER SYSTEM RESET synchronous_standby_names")
    standby.execute("SELECT pg_reload_conf()")
    standby.execute("SELECT pg_promote(true, 60)")


def _front(system: System) -> Proxy:
    """The proxy directly before the database."""
    proxy = system.behind_pooler or system.proxy
    assert proxy
    return proxy


def _failed_over(leave: Callable[[System, Node], None]) -> Callable[[System], AbstractContextManager[object]]:
    """Promote the standby after `leave` has ended the primary, and lead connections to it."""

    @contextmanager
    def failed_over(system: System) -> Iterator[None]:
        primary, standby = system.nodes
        leave(system, primary)
        _promote(standby)
        _front(system).retarget(standby.url)
        system.nodes = standby, primary
        system.admin_url = make_conninfo(standby.url, dbname=system.database_name)
        yield
        _follow(standby, primary)

    return failed_over


def _killed(_system: System, primary: Node) -> None:
    primary.send(signal.SIGKILL)


def _shut_down(_system: System, primary: Node) -> None:
    primary.run("pg_ctl", "stop", "-D", str(primary.data), "-m", "fast")


def _unreachable(system: System, primary: Node) -> None:
    """End the primary as its clients see it whose machine is gone: connections stay silent."""
    _front(system).freeze()
    primary.send(signal.SIGKILL)


@contextmanager
def standby_stopped(system: System) -> Iterator[None]:
    """Stop the synchronous standby: commits wait for it."""
    standby = system.nodes[1]
    standby.send(signal.SIGSTOP)
    try:
        yield
    finally:
        standby.send(signal.SIGCONT)


@contextmanager
def led_to_standby(system: System) -> Iterator[None]:
    """Lead all connections to the standby, in recovery, which only reads."""
    primary, standby = system.nodes
    for node in (standby, primary):
        _front(system).retarget(node.url)
        _front(system).cut()
        if node is standby:
            yield


@contextmanager
def postmaster_killed(system: System) -> Iterator[None]:
    """Kill the postmaster alone, and start the server when its last process has ended."""
    [node] = system.nodes
    node.kill_postmaster()
    yield
    node.start_again()


@contextmanager
def server_stopped_hard(system: System) -> Iterator[None]:
    """Kill every process of the database server, and start it again."""
    [node] = system.nodes
    node.send(signal.SIGKILL)
    yield
    node.start_again()


@contextmanager
def _alone(settings: str = "") -> Iterator[Sequence[Node]]:
    with nodes("a") as [node]:
        node.create(settings=settings)
        node.start()
        yield (node,)


def _with_few_connections() -> AbstractContextManager[Sequence[Node]]:
    return _alone(f"max_connections = {_CONNECTIONS}\n")


@contextmanager
def _on_small_disk() -> Iterator[Sequence[Node]]:
    """A server whose whole disk is small, WAL and all."""
    with nodes("a") as [node], _mounted(node.folder, _DISK):
        node.create("--wal-segsize=1", settings="min_wal_size = 4MB\nmax_wal_size = 8MB\nwal_keep_size = 0\n")
        node.start()
        yield (node,)


@contextmanager
def on_small_tablespace() -> Iterator[Sequence[Node]]:
    """A server whose databases are on a small disk, and its WAL is not."""
    with nodes("a") as [node]:
        node.create()
        node.start()
        with _mounted(node.folder / "space", _TABLESPACE):
            node.execute(f"CREATE TABLESPACE small LOCATION '{node.folder / 'space'}'")
            node.execute("GRANT CREATE ON TABLESPACE small TO PUBLIC")
            node.execute("ALTER SYSTEM SET default_tablespace = small")
            node.execute("SELECT pg_reload_conf()")
            try:
                yield (node,)
            finally:
                node.stop()


@contextmanager
def _mounted(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},uid=65534,mode=700", "tmpfs", folder], check=True, timeout=TIMEOUT
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=TIMEOUT)


def filled(part: str) -> Callable[[System], AbstractContextManager[object]]:
    """Fill the disk with this folder of the server, and start the server again if that ended it."""

    @contextmanager
    def full(system: System) -> Iterator[None]:
        [node] = system.nodes
        filler = node.folder / part / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass
        if part == ".":
            _use_up_wal(node)
        yield
        filler.unlink()
        if not node.runs():
            node.start_again()

    return full


def _use_up_wal(node: Node) -> None:
    """Write WAL until its disk is full, which ends the server (PANIC)."""
    ends = time.monotonic() + TIMEOUT
    with suppress(psycopg.OperationalError), psycopg.connect(node.url, autocommit=True, connect_timeout=10) as admin:
        while time.monotonic() < ends:
            admin.execute("SELECT pg_logical_emit_message(true, 'filler', repeat('x', 500000))")


@contextmanager
def connections_taken(system: System) -> Iterator[None]:
    """Take every connection that the server allows, those of the service as well."""
    [node] = system.nodes
    with ExitStack() as taken:
        first = taken.enter_context(psycopg.connect(node.url, autocommit=True, connect_timeout=10))
        ends = time.monotonic() + TIMEOUT
        while time.monotonic() < ends:
            with suppress(psycopg.OperationalError):  # no more
                while True:
                    taken.enter_context(psycopg.connect(node.url, connect_timeout=10))
            ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
            if not first.execute(ended).fetchall():
                break
        yield


@contextmanager
def password_changed(system: System) -> Iterator[None]:
    """Change the password of the service's role, and end its sessions."""
    [node] = system.nodes
    for password in reversed(_PASSWORDS):
        node.execute(f"ALTER ROLE {ROLE} PASSWORD '{password}'")
        node.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'")
        if password != _PASSWORDS[0]:
            yield


@contextmanager
def _with_password() -> Iterator[Sequence[Node]]:
    with nodes("a") as [node]:
        node.create()
        (node.data / "pg_hba.conf").write_text(f"local all {ROLE} scram-sha-256\nlocal all all trust\n")
        node.start()
        node.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{_PASSWORDS[0]}'")
        yield (node,)


def _system(servers: Servers, url_of: Callable[[str], str] = str) -> Callable[[str], AbstractContextManager[System]]:
    return lambda kind: running_system(kind, settings=SETTINGS, servers=servers, url_of=url_of)


def _password_in(url: str) -> str:
    return make_conninfo(url, password=_PASSWORDS[0])


OWN_SYSTEMS = (
    OwnSystem(
        _system(_replicated),
        (
            Fault("failover: primary killed (kill -9)", _failed_over(_killed), _BOTH),
            Fault("failover: primary shut down", _failed_over(_shut_down), _BOTH),
            Fault("failover: primary unreachable", _failed_over(_unreachable), _BOTH, recovers_within=10),
            Fault("synchronous standby stopped (SIGSTOP)", standby_stopped, _BOTH, seconds=1),
            Fault("address leads to the standby", led_to_standby, _BOTH),
        ),
    ),
    OwnSystem(
        _system(_alone),
        (
            Fault("postmaster killed (kill -9)", postmaster_killed, _BOTH, seconds=0.1),
            Fault("database killed whole (kill -9)", server_stopped_hard, _BOTH, seconds=0.1),
        ),
    ),
    OwnSystem(
        _system(_with_few_connections),
        (Fault("connections taken by others", connections_taken, _BOTH),),
    ),
    OwnSystem(
        _system(_with_password, _password_in),
        (Fault("password changed", password_changed, _POSTGRES),),
    ),
    OwnSystem(
        _system(on_small_tablespace),
        (Fault("disk of the tables full", filled("space"), _BOTH, seconds=2),),
        missing_mounts(),
    ),
    OwnSystem(
        _system(_on_small_disk),
        (Fault("disk of the database full, WAL and all", filled("."), _BOTH),),
        missing_mounts(),
    ),
)
