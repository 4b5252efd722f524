"""Faults of PgBouncer."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import PGBOUNCER, Fault, Injection
from tests.faults.pooler import Pooler
from tests.faults.system import System

_ONLY_PGBOUNCER = frozenset({PGBOUNCER})


def _pooler(system: System) -> Pooler:
    assert system.pooler, "the system has no pooler"
    return system.pooler


@contextmanager
def killed(system: System) -> Iterator[None]:
    """Kill PgBouncer, and start it again."""
    _pooler(system).stop()
    yield
    _pooler(system).start()


@contextmanager
def stopped(system: System) -> Iterator[None]:
    """Stop PgBouncer, whose sockets stay open."""
    _pooler(system).send(signal.SIGSTOP)
    try:
        yield
    finally:
        _pooler(system).send(signal.SIGCONT)


def _commands(break_: str, heal: str = "") -> Injection:
    """Run commands of the admin console; DATABASE stands for the name of the database."""

    @contextmanager
    def commanded(system: System) -> Iterator[None]:
        name = system.database_name
        _pooler(system).command(break_.replace("DATABASE", name))
        yield
        if heal:
            _pooler(system).command(heal.replace("DATABASE", name))

    return commanded


def _configured(**changes: str) -> Injection:
    """Reload PgBouncer with other settings, and cut the connections to it."""

    @contextmanager
    def changed(system: System) -> Iterator[None]:
        assert system.proxy, "the system has no proxy"
        for settings in (changes, {}):
            _pooler(system).configure(**settings)
            _pooler(system).send(signal.SIGHUP)
            system.proxy.cut()
            if settings:
                yield

    return changed


FAULTS = (
    Fault("PgBouncer killed (kill -9)", killed, _ONLY_PGBOUNCER),
    Fault("PgBouncer stopped (SIGSTOP)", stopped, _ONLY_PGBOUNCER, seconds=1.5),
    Fault("PgBouncer paused", _commands("PAUSE DATABASE", "RESUME DATABASE"), _ONLY_PGBOUNCER),
    Fault("PgBouncer: database killed", _commands("KILL DATABASE", "RESUME DATABASE"), _ONLY_PGBOUNCER),
    Fault("PgBouncer: database disabled", _commands("DISABLE DATABASE", "ENABLE DATABASE"), _ONLY_PGBOUNCER),
    Fault("PgBouncer: RECONNECT", _commands("RECONNECT DATABASE"), _ONLY_PGBOUNCER, seconds=0),
    Fault("PgBouncer: reload", _configured(server_round_robin="0"), _ONLY_PGBOUNCER),
    Fault("PgBouncer: server_lifetime 1", _configured(server_lifetime="1"), _ONLY_PGBOUNCER, seconds=2),
    Fault("PgBouncer: max_client_conn 3", _configured(max_client_conn="3"), _ONLY_PGBOUNCER),
    Fault("PgBouncer: default_pool_size 1", _configured(default_pool_size="1"), _ONLY_PGBOUNCER),
    Fault("PgBouncer: query_timeout 1", _configured(query_timeout="1"), _ONLY_PGBOUNCER),
    Fault("PgBouncer: client_idle_timeout 1", _configured(client_idle_timeout="1"), _ONLY_PGBOUNCER, seconds=2),
)
