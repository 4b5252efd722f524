"""The log lines of calls: one for each call that fails, numbers where many fail alike."""

from __future__ import annotations

import asyncio
import logging
import time

import structlog
from grpc import StatusCode

from service.call_record import CallRecord
from service.errors import DeadlineExceeded, Overloaded, RateLimited, RequestError

_log = structlog.get_logger("rpc")

# Other codes are the caller's fault and logged at info; these point to a problem of the service.
_LEVELS = {
    StatusCode.INTERNAL: "error",
    StatusCode.UNAVAILABLE: "warning",
    StatusCode.RESOURCE_EXHAUSTED: "warning",
}

# Most log lines a second for calls whose deadline passed.
_MAX_DEADLINE_LINES = 10


class CallLog:
    """Writes the log lines of calls."""

    def __init__(self) -> None:
        self._overloads = self._deadlines = 0  # in the current second

    @property
    def has_successes(self) -> bool:
        """True if calls that succeed are logged."""
        return bool(_log.is_enabled_for(logging.DEBUG))

    def on_success(self, method: str, record: CallRecord) -> None:
        _log.debug("rpc", method=method, code="OK", **_fields(record))

    def on_failure(
        self, method: str, code: StatusCode, error: RequestError, cause: BaseException | None, record: CallRecord
    ) -> None:
        """Log a failed call. Only the log gets the cause of an error."""
        if isinstance(error, Overloaded):
            self._count_overloads(method)
        # Refusals that come in floods are logged at debug.
        is_flood = isinstance(error, RateLimited | Overloaded) or self._is_flood_of_deadlines(error)
        level = "debug" if is_flood else _LEVELS.get(code, "info")
        private = {"exc_info": cause} if code is StatusCode.INTERNAL else {"cause": repr(cause)} if cause else {}
        getattr(_log, level)(
            "rpc",
            method=method,
            code=code.name,
            reason=error.reason,
            message=str(error),
            **_fields(record),
            **private,
        )

    def _is_flood_of_deadlines(self, error: RequestError) -> bool:
        """True for a deadline that passed when many have in this second: under overload, lines cost more than calls."""
        if not isinstance(error, DeadlineExceeded):
            return False
        self._deadlines += 1
        if self._deadlines == 1:
            asyncio.get_running_loop().call_later(1.0, self._log_deadlines)
        return self._deadlines > _MAX_DEADLINE_LINES

    def _log_deadlines(self) -> None:
        if (more := self._deadlines - _MAX_DEADLINE_LINES) > 0:
            _log.info("more deadlines passed", calls=more)
        self._deadlines = 0

    def _count_overloads(self, method: str) -> None:
        """Log the first refusal for overload at once, and the number of those that follow once a second."""
        self._overloads += 1
        if self._overloads == 1:
            _log.warning("overloaded", method=method, message=str(Overloaded()))
            asyncio.get_running_loop().call_later(1.0, self._log_overloads)

    def _log_overloads(self) -> None:
        if self._overloads > 1:
            _log.warning("overloaded", refused=self._overloads - 1)
        self._overloads = 0


def _fields(record: CallRecord) -> dict[str, object]:
    """Return the fields that every log line of a call has."""
    return {
        "request_id": record.request_id,
        **({"trace_id": trace_id} if (trace_id := record.trace_id) else {}),
        "user": record.caller.user_id if record.caller else None,
        "api": record.api,
        "seconds": round(time.perf_counter() - record.started, 5),
    }
