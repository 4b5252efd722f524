"""How many calls to expect, and how long to wait for them: the numbers behind coalescer.py."""

from dataclasses import dataclass

_FEW = 4  # fewer than these are never waited for, and need not be counted


@dataclass(frozen=True, slots=True)
class Gathering:
    """How calls are gathered; times in seconds."""

    max_set: int = 256
    """The most calls in one set."""
    enough: int = 64
    """How many calls make a set that is not worth waiting for to grow."""
    max_waiting: int = 4096
    """The most calls that wait; one more is refused."""
    overlap: int = 2
    """How many sets are under way at once while calls keep coming."""
    max_sets: int = 8
    """How many when nobody new comes: less than there are connections."""
    look_around: float = 0.001
    """How long a look for newcomers takes; after the second one in vain what waits is sent."""
    linger: float = 0.01
    """The longest that a set is held back while others could be sent."""
    window: float = 0.1
    """How often the crowd is counted anew. What was seen in this window and in the one before it is expected."""
    patience: float = 0.05
    """How long a set may be under way before others go past it."""


class Crowd:
    """The most calls that were about at once, lately."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._ends = 0.0
        self._peaks = (1, 1)  # of the window before, and of this one
        self.is_counted = True

    @property
    def size(self) -> int:
        return max(self._peaks)

    def see(self, size: int, now: float) -> None:
        """Take note of so many calls at once. When a window has ended, what is about has to be counted."""
        before, peak = self._peaks
        if now > self._ends:
            before, peak = (peak, size) if now < self._ends + self._window else (1, size)
            self._ends = now + self._window
            self.is_counted = max(before, peak) < _FEW
        self._peaks = before, max(peak, size)
