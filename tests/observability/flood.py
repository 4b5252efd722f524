"""One caller that calls as often as it can, with many calls at a time."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
from taskwell.v1 import tasks_pb2_grpc

_PAUSE = 0.05
"""Pause after a call that failed (s): a closed loop without one would spin."""


@contextmanager
def flooded(address: str, call: Callable[[Any], Any], *, channels: int, outstanding: int) -> Iterator[None]:
    """Keep so many calls outstanding on each of several channels, during the block."""
    stopped = threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(_flood(address, call, channels, outstanding, stopped)), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


async def _flood(
    address: str, call: Callable[[Any], Any], channels: int, outstanding: int, stopped: threading.Event
) -> None:
    async def one(stub: Any) -> None:
        while not stopped.is_set():
            try:
                await call(stub)
            except grpc.RpcError:
                await asyncio.sleep(_PAUSE)

    opened = [grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(channels)]
    stubs = [tasks_pb2_grpc.TaskServiceStub(channel) for channel in opened]
    try:
        await asyncio.gather(*(one(stub) for stub in stubs for _ in range(outstanding)))
    finally:
        with suppress(grpc.RpcError):
            await asyncio.gather(*(channel.close() for channel in opened))
