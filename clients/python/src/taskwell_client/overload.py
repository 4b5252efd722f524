"""Retries of calls that the service refuses because there are too many: after the delay that it names."""

from __future__ import annotations

import random
import time

from taskwell_client.errors import ResourceExhausted

_MAX_BACKOFF = 2.0
"""Longest pause (s), unless the service asks for a longer one."""


class Attempts:
    """The attempts of one call within its timeout. A refused attempt had no effect, so any call may be repeated."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._refused = 0

    def left(self) -> float:
        """The time that is left (s)."""
        return self._deadline - time.monotonic() if self._refused else self._timeout

    def pause(self, error: ResourceExhausted) -> float:
        """The time to wait before the next attempt (s). Raises the error if that is after the deadline, or useless.

        The pauses grow and are random, so that calls that were refused together do not come again together.
        """
        if error.retry_delay is None:
            raise error
        backoff = min(error.retry_delay * 2.0**self._refused, _MAX_BACKOFF)
        pause = max(error.retry_delay, backoff) * random.uniform(1, 2)  # noqa: S311 - no secret
        self._refused += 1
        if pause >= self.left():
            raise error
        return pause
