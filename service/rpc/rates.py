"""How often each caller may call."""

from collections import OrderedDict
from collections.abc import Callable

from service.errors import RateLimited

MOST_BUCKETS = 10_000
"""How many callers are kept account of; the one who called least recently is forgotten first."""


class Rates:
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
