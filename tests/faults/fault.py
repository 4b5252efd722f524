"""The interface between the fault injectors and the harness that runs a workload under their faults.

An injector is a module with faults; `tests/faults/run.py` collects them. A fault is injected and healed in a thread of
its own, so its code may block, within the limits that it sets itself.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.faults.system import PGBOUNCER, POSTGRESQL, SQLITE, System

__all__ = ["PGBOUNCER", "POSTGRESQL", "SQLITE", "Fault", "Injection"]


Injection = Callable[[System], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break a part of a running system.

    Entering `inject` breaks it, leaving heals it. The block lasts for `seconds`; an instant fault has 0.
    """

    name: str
    inject: Injection
    databases: frozenset[str] = frozenset({POSTGRESQL, PGBOUNCER})
    """The kinds of systems that it can break."""
    seconds: float = 0.5
    server_away: bool = False
    """The server's process or its port is affected: calls may fail without a status of the service."""
    memory_short: bool = False
    """The server gets no more memory: a call that needs some may be INTERNAL."""
    recovers_within: float = 5.0
    """Longest time after the end of the block until calls succeed again (s)."""
