"""Waiting for a condition and for nothing else."""

import asyncio
import time
from collections.abc import Callable

_PATIENCE = 120.0  # s; long, so that it only ends what would never come


def until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail if it does not come to hold."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.005)


async def eventually(condition: Callable[[], bool]) -> None:
    """The same in an event loop, which goes on meanwhile."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        await asyncio.sleep(0.001)
