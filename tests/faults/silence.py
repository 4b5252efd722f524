"""Silent peers: the time from a hang to the first call that began after it and succeeded.

python -m tests.faults.silence [--database KIND] [--case NAME] [--deadline SECONDS]

Calls of several users arrive by the clock, whatever the server does. A line has the database, the case, the time to the
first success, the number of calls that failed since the hang, and of those that began more than LIMIT after it.
"""

import argparse
import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from service.log import configure_log
from tests import messages
from tests.faults.database_faults import backends_stopped, postmaster_stopped
from tests.faults.fault import PGBOUNCER, POSTGRESQL
from tests.faults.run import kinds
from tests.faults.system import System, running_system
from tests.messages import STARTUP, Link, Rule

LIMIT = 3.0
"""The longest time until calls succeed again (s)."""
_ALWAYS = 10**9
_RATE = 100
"""Calls per second, of which half create a task and half read one."""
_BEFORE, _AFTER = 2.0, 12.0
"""Seconds of load before and after the hang."""
_SETTLED = 0.5
_POOL = 15
"""Connections of the service's pool."""
_FILLED_WITHIN = 5.0
_SILENT = 2.0
"""The length of a hang that ends by itself (s)."""


@dataclass
class Call:
    """A call, its times on the monotonic clock and its status code."""

    start: float
    end: float
    code: str


@dataclass
class Seen:
    """The calls around a hang."""

    calls: list[Call] = field(default_factory=list)
    begun: float = 0.0
    healed: float = 0.0

    def first_success(self) -> float | None:
        """Seconds from the hang, or from its end where it ends, to the first success of a call that began later."""
        good = [call.end for call in self.calls if call.code == "OK" and call.start >= self.healed]
        return min(good) - self.healed if good else None

    def failed(self) -> int:
        """The number of calls that failed since the hang began."""
        return sum(call.code != "OK" for call in self.calls if call.end >= self.begun)

    def behind(self) -> str:
        """The calls that failed among those that began when all should be well again."""
        late = [call.code for call in self.calls if call.start >= self.healed + LIMIT]
        return f"{sum(code != 'OK' for code in late)}/{len(late)}"


Hang = Callable[[System], None]


def freeze(system: System) -> None:
    """Silence all connections that exist."""
    assert system.proxy
    system.proxy.freeze()


def freeze_statements(system: System) -> None:
    """Silence each connection when it begins a statement, as many as the pool has."""
    assert system.proxy
    rule = Rule((b"B",), messages.silence, times=_POOL)
    system.proxy.apply(rule)
    deadline = time.monotonic() + _FILLED_WITHIN
    while rule.done < _POOL and time.monotonic() < deadline:
        time.sleep(0.01)
    system.proxy.remove(rule)


def freeze_half(system: System) -> None:
    assert system.proxy
    system.proxy.freeze(every=2)


def freeze_four_times(system: System) -> None:
    for _ in range(3):
        freeze_statements(system)
        time.sleep(1.5)
    freeze_statements(system)


def freeze_behind(system: System) -> None:
    """Silence all connections of the pooler to the database."""
    assert system.behind_pooler
    system.behind_pooler.freeze()


def silent_startup(system: System) -> None:
    """Cut all connections; new ones are accepted and not answered, for a while."""
    assert system.proxy
    rule = Rule((STARTUP,), messages.silence, times=_ALWAYS)
    system.proxy.apply(rule)
    system.proxy.cut()
    time.sleep(_SILENT)
    system.proxy.remove(rule)


def silent_every_second(system: System) -> None:
    """Cut all connections; of the new ones, every second one is not answered."""
    assert system.proxy
    seen: list[object] = []  # a client sends several messages at the start of a session

    def some(link: Link, data: bytes) -> bytes | None:
        if link.source not in seen:
            seen.append(link.source)
        return data if seen.index(link.source) % 2 else None

    system.proxy.apply(Rule((STARTUP,), some, times=_ALWAYS))
    system.proxy.cut()


def silent_tls(system: System) -> None:
    """Cut all connections; new ones agree to encrypt and then say nothing more, for a while."""
    assert system.proxy

    def agree(link: Link, _data: bytes) -> None:
        link.source.sendall(b"S")

    rule = Rule((STARTUP,), agree, times=_ALWAYS)
    system.proxy.apply(rule)
    system.proxy.cut()
    time.sleep(_SILENT)
    system.proxy.remove(rule)


def stopped_database(system: System) -> None:
    """Stop all processes of the database for a while."""
    with backends_stopped(system), postmaster_stopped(system):
        time.sleep(_SILENT)


def slow(system: System) -> None:
    """Answer every statement after three seconds, from now on."""
    assert system.proxy
    system.proxy.apply(Rule((b"Z",), messages.delay(3), from_server=True, times=_ALWAYS))


CASES: dict[str, tuple[Hang, dict[str, str]]] = {
    "connections silent": (freeze, {}),
    "all silent in statements": (freeze_statements, {}),
    "half of the connections silent": (freeze_half, {}),
    "four hangs, 1.5 s apart": (freeze_four_times, {}),
    "silent in the ping": (freeze, {"DATABASE_PING_AFTER": "0.000001"}),
    "silent while connecting": (silent_startup, {}),
    "half of the new connections silent": (silent_every_second, {}),
    "the same, one connection": (
        silent_every_second,
        {"DATABASE_POOL_SIZE": "1", "DATABASE_MAX_OVERFLOW": "0"},
    ),
    "one connection, silent": (freeze, {"DATABASE_POOL_SIZE": "1", "DATABASE_MAX_OVERFLOW": "0"}),
    "silent in the TLS handshake": (silent_tls, {}),
    "database stopped (SIGSTOP)": (stopped_database, {}),
    "statements take 3 s": (slow, {}),
    "behind the pooler: silent": (freeze_behind, {}),
}


async def _call(stub: Any, user: str, number: int, deadline: float, seen: Seen) -> None:
    start = time.monotonic()
    metadata = (("x-user-id", user),)
    try:
        if number % 2:
            await stub.ListTasks(tasks_pb2.ListTasksRequest(page_size=1), metadata=metadata, timeout=deadline)
        else:
            task = tasks_pb2.Task(title="New")
            await stub.CreateTask(tasks_pb2.CreateTaskRequest(task=task), metadata=metadata, timeout=deadline)
        code = "OK"
    except grpc.aio.AioRpcError as error:
        code = error.code().name
    seen.calls.append(Call(start, time.monotonic(), code))


async def _load(address: str, deadline: float, seen: Seen, ended: threading.Event) -> None:
    users = [f"user-{uuid4()}" for _ in range(20)]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        calls: set[asyncio.Task[None]] = set()
        number = 0
        while not ended.is_set():
            call = asyncio.create_task(_call(stub, users[number % len(users)], number, deadline, seen))
            calls.add(call)
            call.add_done_callback(calls.discard)
            number += 1
            await asyncio.sleep(1 / _RATE)
        await asyncio.gather(*calls)


def measure(system: System, hang: Hang, deadline: float) -> Seen:
    """Put load on the system, let something hang, and return what callers saw."""
    seen, ended = Seen(), threading.Event()
    load = threading.Thread(target=lambda: asyncio.run(_load(system.server.address, deadline, seen, ended)))
    load.start()
    try:
        time.sleep(_BEFORE)
        seen.begun = time.monotonic()
        hang(system)
        seen.healed = time.monotonic()
        time.sleep(_AFTER)
    finally:
        ended.set()
        load.join()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.silence", description="Measure silent peers.")
    parser.add_argument("--database", choices=[POSTGRESQL, PGBOUNCER])
    parser.add_argument("--case", default="", help="only the cases whose names contain this")
    parser.add_argument("--deadline", type=float, default=5.0, help="of each call (s)")
    arguments = parser.parse_args()
    configure_log("warning", "auto")
    for kind in kinds(arguments.database):
        for name, (hang, settings) in CASES.items():
            if arguments.case not in name or kind not in (POSTGRESQL, PGBOUNCER):
                continue
            if "behind" in name and kind != PGBOUNCER:
                continue
            with running_system(kind, settings=settings) as system:
                seen = measure(system, hang, arguments.deadline)
            first = seen.first_success()
            shown = "never" if first is None else f"{first:.2f} s"
            print(f"{kind:<11}{name:<36}{shown:>8}  {seen.failed():>6}  {seen.behind()}", flush=True)


if __name__ == "__main__":
    main()
