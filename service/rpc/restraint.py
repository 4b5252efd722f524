"""Refusals of those who call too often are held back: at once, they would only be asked for again at once."""

import asyncio
from collections.abc import Iterator

from service.errors import RateLimited

HELD_BACK = 0.25
"""How long at least (s), and not more than twice as long, unless the call's deadline is sooner."""

_MOST_HELD_BACK = 2000
_GOLDEN = (5**0.5 - 1) / 2


def pauses() -> Iterator[float]:
    """Times from HELD_BACK to twice that, for ever, and spread evenly however many of them are taken.

    Calls that came together would else come back together, and keep everybody else waiting. (The multiples of the
    golden ratio modulo 1 lie as evenly as those of any number: D. E. Knuth, The Art of Computer Programming 3, 6.4.)
    """
    place = 0.0
    while True:
        yield HELD_BACK * (1 + place)
        place = (place + _GOLDEN) % 1


class Restraint:
    """Holds back some refusals at a time; when there are more, they are given at once."""

    def __init__(self) -> None:
        self._pauses = pauses()
        self._held_back = 0

    async def hold_back(self, refusal: RateLimited, remaining: float | None) -> RateLimited:
        """Wait a little, half of what is `remaining` until the deadline (s) at most.

        Answers the refusal with the time that is then left to wait.
        """
        pause = next(self._pauses)
        if remaining is not None:
            pause = min(pause, remaining / 2)
        if self._held_back >= _MOST_HELD_BACK or pause <= 0:
            return refusal
        self._held_back += 1
        try:
            await asyncio.sleep(pause)
        finally:
            self._held_back -= 1
        return RateLimited(seconds=max(0.001, refusal.seconds - pause))
