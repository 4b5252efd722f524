"""Waiting for a condition."""

import asyncio
import time
from collections.abc import Callable

_TIMEOUT = 120.0  # s; generous: only for conditions that never become true


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true; fail after a generous timeout."""
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.005)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait as `until` does, without blocking the event loop."""
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        await asyncio.sleep(0.001)
