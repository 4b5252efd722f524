"""Seeding: replaces parts of the service before it starts, so that one promise is broken.

A bug is a function that does so. The decorator says which kinds of anomalies name it: the checker must report one of
them.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from grpc import StatusCode

from service.db import compiled_statement
from service.errors import RequestError
from service.rpc import interceptor, status
from tests.faults.anomalies import Kind
from tests.faults.fault import SQLITE

KILLED, MOVED, RESTARTED, LOST = "server killed", "file moved away", "server restarted", "responses lost"


@dataclass(frozen=True, slots=True)
class Bug:
    """One seeded bug, and how the checker is to name it."""

    name: str
    seed: Callable[[], None]
    kinds: frozenset[Kind]
    fault: str = ""
    """The fault that it takes to show; the bug shows without one if this is empty."""
    database: str = SQLITE


BUGS: dict[str, Bug] = {}


def shows_as(*kinds: Kind, fault: str = "", database: str = SQLITE) -> Callable[[Callable[[], None]], None]:
    def add(seed: Callable[[], None]) -> None:
        BUGS[seed.__name__] = Bug(seed.__name__, seed, frozenset(kinds), fault, database)

    return add


def around(owner: Any, name: str, new: Callable[..., Any]) -> None:
    """Replace a function by one that gets the old one as its first argument."""
    old = getattr(owner, name)
    setattr(owner, name, wraps(old)(lambda *args, **kwargs: new(old, *args, **kwargs)))


def in_sql(old: str, new: str) -> None:
    """Replace a piece of every statement."""

    def edited(init: Any, self: Any, *args: Any) -> None:
        init(self, *args)
        self.text = self.text.replace(old, new)

    around(compiled_statement.CompiledStatement, "__init__", edited)


def one_in(number: int) -> bool:
    return random.random() < 1 / number


_tasks: set[asyncio.Task[Any]] = set()


def later(seconds: float, work: Callable[[], Any]) -> None:
    """Run a coroutine function in the background."""

    async def run() -> None:
        await asyncio.sleep(seconds)
        await work()

    task = asyncio.ensure_future(run())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def with_codes(changed: Mapping[type[RequestError], StatusCode]) -> None:
    """Change the status codes of some errors."""
    for module in (interceptor, status):
        vars(module)["CODES"] = {**status.CODES, **changed}
