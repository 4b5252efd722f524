"""One log line when something goes away and one when it is back, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from service.log import without_details

_MIN_INTERVAL = 5.0
"""Time between two lines about the same thing that goes away again and again (s)."""
_REMIND_AFTER = 60.0
"""Time between lines about what stays away (s)."""


class Outage:
    """The state of something that calls depend on, as far as they have noticed.

    `gone` and `back` are the events of its lines. `clock` is monotonic (s).
    """

    def __init__(self, gone: str, back: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = structlog.get_logger("app")
        self._gone, self._back = gone, back
        self._clock = clock
        self.is_on = False
        self.failed_calls = 0
        """Calls that have failed since it began."""
        self._began = self._logged = float("-inf")
        self._is_logged = False

    def begin(self, cause: BaseException | str, **fields: object) -> None:
        """Note a failure. The first is logged, and then one a minute."""
        now = self._clock()
        if not self.is_on:
            self.is_on, self._began, self.failed_calls = True, now, 0
            self._is_logged = False
        if now - self._logged < (_REMIND_AFTER if self._is_logged else _MIN_INTERVAL):
            return
        self._logged, self._is_logged = now, True
        since = round(now - self._began, 3)
        self._log.warning(self._gone, cause=_words(cause), seconds=since, **self._calls(), **fields)

    def end(self) -> None:
        """Note a success."""
        if not self.is_on:
            return
        self.is_on = False
        if self._is_logged:
            seconds = round(self._clock() - self._began, 3)
            self._log.warning(self._back, seconds=seconds, **self._calls())

    def _calls(self) -> dict[str, int]:
        return {"failed_calls": self.failed_calls} if self.failed_calls else {}


def _words(cause: BaseException | str) -> str:
    if isinstance(cause, str):
        return cause
    text = " ".join(without_details(str(cause)).split())
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__
