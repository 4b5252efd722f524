"""Faults of the server's process: killed, stopped, restarted."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.fault import PGBOUNCER, POSTGRESQL, SQLITE, Fault
from tests.faults.system import System

_ALL = frozenset({SQLITE, POSTGRESQL, PGBOUNCER})


@contextmanager
def killed(system: System) -> Iterator[None]:
    """Kill the server at once, and start it again."""
    system.server.kill()
    yield
    system.server.start()


@contextmanager
def restarted(system: System) -> Iterator[None]:
    """Restart the server as a deployment does."""
    system.server.restart(signal.SIGTERM)
    yield


@contextmanager
def stopped(system: System) -> Iterator[None]:
    """Stop the server, as a machine that swaps or a paused virtual machine does."""
    system.server.send(signal.SIGSTOP)
    try:
        yield
    finally:
        system.server.send(signal.SIGCONT)


@contextmanager
def without_descriptors(system: System) -> Iterator[None]:
    """Let the server open no further file or socket."""
    limits = resource.prlimit(system.server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(system.server.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    if system.proxy:
        system.proxy.cut()
    try:
        yield
    finally:
        resource.prlimit(system.server.pid, resource.RLIMIT_NOFILE, limits)


@contextmanager
def with_little_memory(system: System) -> Iterator[None]:
    """Let the server have no more memory than it has (RLIMIT_AS). If that ends it, start it again."""
    pid = system.server.pid
    limits = resource.prlimit(pid, resource.RLIMIT_AS)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize(), limits[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, limits)
        system.server.start_if_ended()


FAULTS = (
    Fault("server killed (kill -9)", killed, _ALL, seconds=0.1, server_away=True),
    Fault("server restarted (SIGTERM)", restarted, _ALL, seconds=0, server_away=True),
    Fault("server stopped for 0.5 s (SIGSTOP)", stopped, _ALL, seconds=0.5, server_away=True),
    Fault("server out of file descriptors", without_descriptors, _ALL, server_away=True),
    Fault("server out of memory (RLIMIT_AS)", with_little_memory, _ALL, server_away=True, memory_short=True),
)
