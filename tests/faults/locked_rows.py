"""Locked rows: the p99 of other users' calls while callers retry for rows that another transaction has locked.

python -m tests.faults.locked_rows [--case NAME] [--rate N] [--rounds N]

Quiet and locked times take turns, so that other work on the machine meets both. The owners of locked rows retry with
deadlines of 200 ms, without a pause. Other users' calls arrive by the clock.
"""

import argparse
import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import grpc
import psycopg
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from service.log import configure_log
from tests.faults.fault import POSTGRESQL
from tests.faults.system import System, running_system

_OTHERS = 20
"""The number of users whose calls are measured."""
_DEADLINE, _RETRY_DEADLINE = 5.0, 0.2
_SECONDS = 2.0
"""The length of a quiet or a locked time."""


class Call(NamedTuple):
    """A call of another user."""

    method: str
    seconds: float
    code: str


class Owner(NamedTuple):
    """A user with a task."""

    user: str
    task: str


Retried = Callable[[Any, Owner], Awaitable[object]]


def _metadata(user: str) -> tuple[tuple[str, str], ...]:
    return (("x-user-id", user),)


async def _create(stub: Any, user: str) -> str:
    request = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="New"))
    return str((await stub.CreateTask(request, metadata=_metadata(user), timeout=_DEADLINE)).id)


async def _complete_own(stub: Any, owner: Owner) -> None:
    request = tasks_pb2.CompleteTaskRequest(id=owner.task)
    await stub.CompleteTask(request, metadata=_metadata(owner.user), timeout=_RETRY_DEADLINE)


async def _delete_own(stub: Any, owner: Owner) -> None:
    request = tasks_pb2.DeleteTaskRequest(id=owner.task)
    await stub.DeleteTask(request, metadata=_metadata(owner.user), timeout=_RETRY_DEADLINE)


async def _create_own(stub: Any, owner: Owner) -> None:
    request = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="New"))
    await stub.CreateTask(request, metadata=_metadata(owner.user), timeout=_RETRY_DEADLINE)


_LOCK_TASKS = "SELECT 1 FROM tasks WHERE user_id = ANY(%s) FOR UPDATE"
_LOCK_USERS = "DELETE FROM tasks WHERE user_id = ANY(%(u)s); DELETE FROM users WHERE id = ANY(%(u)s)"
CASES: dict[str, tuple[int, str, Retried]] = {
    "one locked task": (1, "tasks", _complete_own),
    "five locked tasks of different users": (5, "tasks", _complete_own),
    "five locked tasks, deleted": (5, "tasks", _delete_own),
    "one locked user, creates": (1, "users", _create_own),
    "five locked users, creates": (5, "users", _create_own),
}


async def _retry(stub: Any, owner: Owner, retried: Retried, ended: asyncio.Event) -> None:
    while not ended.is_set():
        try:
            await retried(stub, owner)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise


async def _measured(stub: Any, number: int, owner: Owner, calls: list[Call]) -> None:
    method = ("CreateTask", "GetTask", "CompleteTask", "UpdateTask")[number % 4]
    requests = {
        "CreateTask": tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="New")),
        "GetTask": tasks_pb2.GetTaskRequest(id=owner.task),
        "CompleteTask": tasks_pb2.CompleteTaskRequest(id=owner.task),
        "UpdateTask": tasks_pb2.UpdateTaskRequest(task=tasks_pb2.Task(id=owner.task, title=f"Title {number}")),
    }
    start = time.monotonic()
    code = "OK"
    try:
        await getattr(stub, method)(requests[method], metadata=_metadata(owner.user), timeout=_DEADLINE)
    except grpc.aio.AioRpcError as error:
        code = error.code().name
    calls.append(Call(method, time.monotonic() - start, code))


async def _load(stub: Any, others: Sequence[Owner], rate: int) -> list[Call]:
    """Calls of other users for some seconds."""
    calls: list[Call] = []
    running = []
    start = time.monotonic()
    for number in range(int(_SECONDS * rate)):
        await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
        owner = others[number % len(others)]
        running.append(asyncio.create_task(_measured(stub, number + number // len(others), owner, calls)))
    await asyncio.gather(*running)
    return calls


async def _round(system: System, stub: Any, case: tuple[int, str, Retried], others: Sequence[Owner], rate: int) -> Any:
    """A quiet and a locked time. Returns the calls of each."""
    count, locks, retried = case
    owners = [Owner(user, await _create(stub, user)) for user in (f"locked-{uuid4()}" for _ in range(count))]
    quiet = await _load(stub, others, rate)
    users = [owner.user for owner in owners]
    with psycopg.connect(system.admin_url) as lock:
        if locks == "tasks":
            lock.execute(_LOCK_TASKS, [users])
        else:
            psycopg.ClientCursor(lock).execute(_LOCK_USERS, {"u": users})
        ended = asyncio.Event()
        retries = [asyncio.create_task(_retry(stub, owner, retried, ended)) for owner in owners]
        await asyncio.sleep(_RETRY_DEADLINE)
        locked = await _load(stub, others, rate)
        ended.set()
        await asyncio.gather(*retries)
        lock.rollback()
    return quiet, locked


def p99(calls: Sequence[Call]) -> float:
    return statistics.quantiles([call.seconds for call in calls], n=100)[-1]


async def _run(system: System, case: tuple[int, str, Retried], rate: int, rounds: int) -> str:
    async with grpc.aio.insecure_channel(system.server.address) as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)
        others = [Owner(user, await _create(stub, user)) for user in (f"user-{uuid4()}" for _ in range(_OTHERS))]
        await _load(stub, others, rate)  # until the pool is filled
        measured = [await _round(system, stub, case, others, rate) for _ in range(rounds)]
    failed = Counter(call.code for _, locked in measured for call in locked if call.code != "OK")
    quiet, locked = (p99([call for calls in measured for call in calls[part]]) for part in (0, 1))
    return (
        f"quiet {1000 * quiet:6.1f} ms  locked {1000 * locked:6.1f} ms  {locked / quiet:5.2f} x  {dict(failed) or ''}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.locked_rows", description="Measure locked rows.")
    parser.add_argument("--case", default="", help="only the cases whose names contain this")
    parser.add_argument("--rate", type=int, default=200, help="calls of other users per second")
    parser.add_argument("--rounds", type=int, default=10, help="quiet and locked times of each case")
    arguments = parser.parse_args()
    configure_log("warning", "auto")
    with running_system(POSTGRESQL) as system:
        for name, case in CASES.items():
            if arguments.case in name:
                line = asyncio.run(_run(system, case, arguments.rate, arguments.rounds))
                print(f"{name:<40}{line}", flush=True)


if __name__ == "__main__":
    main()
