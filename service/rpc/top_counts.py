"""The callers counted most often, in bounded memory, however many there are."""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class TopCounts(Generic[K]):
    """Counts keys with at most `capacity` counters.

    A new key takes the counter of the rarest one, and its count (Space-Saving: Metwally, Agrawal, El Abbadi, 2005): a
    key that is more than one in `capacity` of all is always among those counted.
    """

    def __init__(self, capacity: int = 128) -> None:
        self._capacity = capacity
        self._counts: dict[K, int] = {}
        self._inherited: dict[K, int] = {}
        self.total = 0

    def count(self, key: K) -> None:
        self.total += 1
        if key in self._counts:
            self._counts[key] += 1
            return
        inherited = 0
        if len(self._counts) >= self._capacity:
            rarest = min(self._counts, key=self._counts.__getitem__)
            inherited = self._counts.pop(rarest)
            self._inherited.pop(rarest, None)
        self._counts[key] = inherited + 1
        if inherited:
            self._inherited[key] = inherited

    def most(self, number: int) -> list[tuple[K, int]]:
        """Return the keys that were counted most often, and how often each was at least."""
        sure = {key: count - self._inherited.get(key, 0) for key, count in self._counts.items()}
        return sorted(sure.items(), key=lambda item: item[1], reverse=True)[:number]
