"""Rate limit per caller, and the delay of the errors that it causes."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator

from service.errors import RateLimited

MAX_BUCKETS = 10_000
"""Callers to keep a bucket for. Beyond it, the bucket of the caller who called least recently is dropped."""

MIN_DELAY = 0.25
"""Shortest delay of a RateLimited error (s); the longest is twice that. A deadline shortens it."""

_MAX_DELAYED = 2000
"""RateLimited errors delayed at the same time; more are sent at once."""

_GOLDEN = (5**0.5 - 1) / 2


class RateLimiter:
    """A token bucket for each caller: holds `burst` tokens, gains `rate` tokens per second; a call takes one.

    A bucket is stored as one number, the time at which it is full again (virtual scheduling in the generic cell rate
    algorithm, ITU-T I.371, equivalent to a token bucket). A full bucket holds no information and is dropped. `clock`
    returns monotonic time (s).
    """

    def __init__(self, *, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._interval = 1 / rate
        self._depth = (burst - 1) / rate
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, user_id: str) -> None:
        """Take a token from the bucket of this user. Raises RateLimited if it is empty."""
        now = self._clock()
        full_at = max(now, self._full_at.get(user_id, now))
        wait = full_at - self._depth - now
        self._full_at[user_id] = full_at if wait > 0 else full_at + self._interval
        self._full_at.move_to_end(user_id)
        if wait > 0:
            raise RateLimited(seconds=wait)
        self._drop_idle(now)

    def _drop_idle(self, now: float) -> None:
        """Drop up to two buckets that are full, or the oldest ones while there are more than MAX_BUCKETS."""
        for _ in range(2):
            user_id, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= MAX_BUCKETS:
                return
            del self._full_at[user_id]


def delays() -> Iterator[float]:
    """Yield delays between MIN_DELAY and twice that (s), evenly spread however many are taken.

    Without the spread, calls that arrived together would be retried together. (Multiples of the golden ratio modulo 1
    are the most even sequence: D. E. Knuth, The Art of Computer Programming 3, 6.4.)
    """
    position = 0.0
    while True:
        yield MIN_DELAY * (1 + position)
        position = (position + _GOLDEN) % 1


class RefusalDelay:
    """Delays RateLimited errors by 250 to 500 ms, so that clients that retry at once do not spin."""

    def __init__(self) -> None:
        self._delays = delays()
        self._delayed = 0

    async def wait(self, error: RateLimited, remaining: float | None) -> RateLimited:
        """Wait, for at most half of the time that is `remaining` until the call's deadline (s).

        Returns the error with its retry time reduced by the time waited.
        """
        delay = next(self._delays)
        if remaining is not None:
            delay = min(delay, remaining / 2)
        if self._delayed >= _MAX_DELAYED or delay <= 0:
            return error
        self._delayed += 1
        try:
            await asyncio.sleep(delay)
        finally:
            self._delayed -= 1
        return RateLimited(seconds=max(0.001, error.seconds - delay))
