"""Heartbeats of a worker: writes the announcement to the supervisor, then a byte per second while its loop runs."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

READY = b"\0"
"""Ends the announcement: the worker accepts calls."""

INTERVAL = 1.0
"""Time between heartbeats (s)."""

_BEAT = b"."


class Heartbeat:
    """Takes over the standard output of the process, which the supervisor reads; later output is discarded.

    Writes do not block: a supervisor that has exited or does not read is ignored.
    """

    def __init__(self) -> None:
        self._pipe = os.dup(1)
        os.set_blocking(self._pipe, False)
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 1)

    def start(self, announcement: str) -> None:
        """Announce that the worker is ready, then send heartbeats."""
        self._write(announcement.encode() + READY)
        self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        # A blocked event loop or a stopped process sends none.
        while True:
            await asyncio.sleep(INTERVAL)
            self._write(_BEAT)

    def _write(self, data: bytes) -> None:
        with suppress(OSError):
            os.write(self._pipe, data)
