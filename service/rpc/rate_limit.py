"""How often each caller may call."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator

from service.errors import RateLimited

MOST_BUCKETS = 10_000
"""How many callers are kept account of; the one who called least recently is forgotten first."""

HELD_BACK = 0.25
"""How long at least (s), and not more than twice as long, unless the call's deadline is sooner."""

_MOST_HELD_BACK = 2000
_GOLDEN = (5**0.5 - 1) / 2


class RateLimiter:
    """A bucket of `burst` tokens for each caller, filled by `rate` tokens a second; a call takes one.

    A bucket is one number: when it would be full again. (The virtual scheduling of the generic cell rate algorithm,
    ITU-T I.371, which decides as a token bucket does.) A bucket that is full says as much as none, and is dropped.
    `clock` is a monotonic one (s).
    """

    def __init__(self, *, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._interval = 1 / rate
        self._depth = (burst - 1) / rate
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, user_id: str) -> None:
        """Take a token. Raises RateLimited, and takes none, if there is none."""
        now = self._clock()
        full_at = max(now, self._full_at.get(user_id, now))
        wait = full_at - self._depth - now
        self._full_at[user_id] = full_at if wait > 0 else full_at + self._interval
        self._full_at.move_to_end(user_id)
        if wait > 0:
            raise RateLimited(seconds=wait)
        self._drop_idle(now)

    def _drop_idle(self, now: float) -> None:
        """Forget callers whose buckets are full, two at most for each that is added, and whoever is too many."""
        for _ in range(2):
            user_id, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= MOST_BUCKETS:
                return
            del self._full_at[user_id]


def pauses() -> Iterator[float]:
    """Times from HELD_BACK to twice that, for ever, and spread evenly however many of them are taken.

    Calls that came together would else come back together, and keep everybody else waiting. (The multiples of the
    golden ratio modulo 1 lie as evenly as those of any number: D. E. Knuth, The Art of Computer Programming 3, 6.4.)
    """
    place = 0.0
    while True:
        yield HELD_BACK * (1 + place)
        place = (place + _GOLDEN) % 1


class RefusalDelay:
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
