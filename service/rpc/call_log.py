"""The log lines of calls: those that fail, are slow or are sampled, and numbers where many are alike."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import Context as Variables
from typing import Any, Protocol

import structlog
from grpc import StatusCode

from service.call_record import CONNECTION, STATEMENT, CallRecord
from service.errors import DatabaseUnavailable, DeadlineExceeded, Overloaded, RateLimited, RequestError, ShuttingDown
from service.log import Level, without_details
from service.outage import Outage
from service.rpc.top_counts import TopCounts

_log = structlog.get_logger("rpc")

# Other codes are the caller's fault and logged at info; these point to a problem of the service.
_LEVELS = {
    StatusCode.INTERNAL: "error",
    StatusCode.UNAVAILABLE: "warning",
    StatusCode.RESOURCE_EXHAUSTED: "warning",
}

# Most lines a second of one kind, where an overload or a fault makes many calls alike; the rest is counted.
_MAX_LINES = 10

REPORT_INTERVAL = 60.0
"""Time between two lines about the callers that are refused most (s)."""
_MAX_CALLERS = 5


class Peer(Protocol):
    """The part of the context of a call that is used here."""

    def peer(self) -> str:
        """The address of the client."""


class CallLog:
    """Writes the log lines of calls.

    Calls that take longer than `slow_seconds` are logged with the time in each phase. Of the calls that succeed,
    a share of `success_sample` is logged. Calls that fail in one of the `outages` are counted there.
    """

    def __init__(
        self,
        *,
        slow_seconds: float = 1.0,
        success_sample: float = 0.0,
        outages: Sequence[Outage] = (),
        report_interval: float = REPORT_INTERVAL,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.slow_seconds = slow_seconds
        self._success_sample = success_sample
        self._chance = chance
        self._outages = outages
        self._lines: Counter[str] = Counter()  # in the current second
        self._overloads = 0  # in the current second
        self._busiest = _BusiestCallers(report_interval)

    def wants(self, seconds: float) -> bool:
        """True if `on_success` has something to do for a call that took this long (s)."""
        return seconds >= self.slow_seconds or Level.is_debug or self._success_sample > 0 or self._busiest.are_counted

    def on_success(self, method: str, record: CallRecord, seconds: float, context: Peer) -> None:
        self._busiest.on_call(record)
        if seconds >= self.slow_seconds and self._is_let_through("slow", "warning"):
            _log.warning("rpc", method=method, code="OK", **_fields(record, seconds), **_phases(record, context))
        elif record.caller and self._success_sample > self._chance():
            _log.info("rpc", method=method, code="OK", **_fields(record, seconds))
        elif Level.is_debug:
            _log.debug("rpc", method=method, code="OK", **_fields(record, seconds))

    def on_cancelled(self, method: str, code: str, record: CallRecord, seconds: float, context: Peer) -> None:
        """Log a call that ended with its client: it was cancelled, or the client's deadline passed first."""
        if code == StatusCode.DEADLINE_EXCEEDED.name:
            self.on_failure(method, StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded(), None, record, seconds, context)
            return
        is_slow = seconds >= self.slow_seconds and self._is_let_through("cancelled", "info")
        details = _phases(record, context) if is_slow else {}
        getattr(_log, "info" if is_slow else "debug")(
            "rpc", method=method, code=code, **_fields(record, seconds), **details
        )

    def on_failure(
        self,
        method: str,
        code: StatusCode,
        error: RequestError,
        cause: BaseException | None,
        record: CallRecord,
        seconds: float,
        context: Peer,
    ) -> None:
        """Log a failed call. Only the log gets the cause of an error."""
        self._busiest.on_call(record)
        if isinstance(error, RateLimited | Overloaded):
            self._busiest.on_refusal(record, is_overload=isinstance(error, Overloaded))
        if isinstance(error, Overloaded):
            self._count_overloads(method)
        level = self._level(code, error, record, seconds)
        details: dict[str, Any] = {}
        if level != "info":
            details = _phases(record, context)
        if code is StatusCode.INTERNAL:
            details["exc_info"] = cause
        elif cause:
            details["cause"] = f"{type(cause).__name__}: {without_details(str(cause)).strip()}"
        getattr(_log, level)(
            "rpc",
            method=method,
            code=code.name,
            reason=error.reason,
            message=str(error),
            **_fields(record, seconds),
            **details,
        )

    def _level(self, code: StatusCode, error: RequestError, record: CallRecord, seconds: float) -> str:
        if isinstance(error, RateLimited | Overloaded):  # they come in floods, which have lines of their own
            return "debug"
        if isinstance(error, DatabaseUnavailable) and (known := [each for each in self._outages if each.is_on]):
            for outage in known:  # it has lines of its own
                outage.failed_calls += 1
            return "debug"
        level = _LEVELS.get(code, "info")
        if isinstance(error, ShuttingDown):
            level = "info"
        elif isinstance(error, DeadlineExceeded) and record.phase in {CONNECTION, STATEMENT}:
            level = "warning"  # the database is slow, not the client impatient
        elif level == "info" and seconds >= self.slow_seconds and not isinstance(error, DeadlineExceeded):
            level = "warning"
        is_flood = isinstance(error, DeadlineExceeded | ShuttingDown) or level == "warning"
        return level if not is_flood or self._is_let_through(error.reason, level) else "debug"

    def _is_let_through(self, kind: str, level: str) -> bool:
        """False for a line of a kind of which there are many in this second: in a flood, lines cost more than calls."""
        self._lines[kind] += 1
        if self._lines[kind] == 1:
            _later(1.0, self._log_rest, kind, level)
        return self._lines[kind] <= _MAX_LINES

    def _log_rest(self, kind: str, level: str) -> None:
        if (more := self._lines.pop(kind) - _MAX_LINES) > 0:
            getattr(_log, level)("more calls like these", reason=kind, calls=more)

    def _count_overloads(self, method: str) -> None:
        """Log the first refusal for overload at once, and the number of those that follow once a second."""
        self._overloads += 1
        if self._overloads == 1:
            _log.warning("overloaded", method=method, message=str(Overloaded()))
            _later(1.0, self._log_overloads)

    def _log_overloads(self) -> None:
        if self._overloads > 1:
            _log.warning("overloaded", refused=self._overloads - 1)
        self._overloads = 0


class _BusiestCallers:
    """Names the callers that are refused most, and during an overload those that call most, once an interval."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._refused: TopCounts[str] = TopCounts()
        self._calls: TopCounts[str] = TopCounts()
        self._is_waiting = self._was_overloaded = False
        self.are_counted = False
        """True while all calls are counted: from an overload until a whole interval without one."""

    def on_call(self, record: CallRecord) -> None:
        if self.are_counted and record.caller:
            self._calls.count(record.caller.user_id)

    def on_refusal(self, record: CallRecord, *, is_overload: bool) -> None:
        if is_overload:
            self._was_overloaded = self.are_counted = True
        if record.caller:
            self._refused.count(record.caller.user_id)
        self._report_later()

    def _report_later(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            _later(self._interval, self._report)

    def _report(self) -> None:
        self._is_waiting = False
        if self._refused.total:
            _log.warning("callers refused most", refused=self._refused.total, callers=_named(self._refused, "refused"))
        if self._was_overloaded and self._calls.total:
            _log.warning("callers that call most", calls=self._calls.total, callers=_named(self._calls, "calls"))
        self._refused, self._calls = TopCounts(), TopCounts()
        self.are_counted = self._was_overloaded
        self._was_overloaded = False
        if self.are_counted:
            self._report_later()


def _named(counts: TopCounts[str], name: str) -> list[dict[str, object]]:
    return [{"user": user, name: number} for user, number in counts.most(_MAX_CALLERS)]


def _later(seconds: float, action: Callable[..., None], *arguments: object) -> None:
    """Call a function later, outside of the context of the current call, whose id its lines would have."""
    asyncio.get_running_loop().call_later(seconds, action, *arguments, context=Variables())


def _fields(record: CallRecord, seconds: float) -> dict[str, object]:
    """Return the fields that every log line of a call has."""
    return {
        "request_id": record.request_id,
        **({"trace_id": trace_id} if (trace_id := record.trace_id) else {}),
        "user": record.caller.user_id if record.caller else None,
        "api": record.api,
        "seconds": round(seconds, 6),
    }


def _phases(record: CallRecord, context: Peer) -> dict[str, Any]:
    """Return the client's address, where the call is, and the time in each phase (s)."""
    times = record.seconds(time.perf_counter())
    # Of a call that has left all phases, that in which it spent most of the time.
    phase = record.phase or (max(times, key=times.__getitem__) if any(times.values()) else None)
    fields = {f"{phase}_seconds": round(spent, 6) for phase, spent in times.items()}
    return {"peer": context.peer(), **({"phase": phase} if phase else {}), **fields}
