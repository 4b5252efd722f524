"""Calls in flight, and the refusal of new ones at shutdown."""

import asyncio
from contextlib import suppress

from service.errors import ShuttingDown
from service.rpc.handlers import Context


class Drain:
    """Counts the calls in flight, so that a shutdown can wait for their end, and refuses calls once it has begun.

    A call lasts until its response is handed to the transport, not only until it is made.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._begun = False
        self._ended = asyncio.Event()

    def enter(self) -> None:
        """Raise ShuttingDown once the drain has begun."""
        if self._begun:
            raise ShuttingDown

    def start(self) -> None:
        """Count one more call, until `end`."""
        self.in_flight += 1

    def end(self) -> None:
        self.in_flight -= 1
        if self._begun and not self.in_flight:
            self._ended.set()

    def end_when_sent(self, context: Context) -> None:
        """Count a call until its response is sent."""
        self.in_flight += 1
        context.add_done_callback(self._sent)  # type: ignore[arg-type]  # its protocol names the argument

    def _sent(self, _context: Context) -> None:
        self.end()

    def begin(self) -> None:
        """Refuse calls from now on."""
        self._begun = True

    async def wait(self, seconds: float) -> None:
        """Wait until the calls in flight have ended, for at most `seconds`."""
        if self.in_flight:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), seconds)
