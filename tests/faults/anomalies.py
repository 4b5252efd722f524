"""Anomalies: the ways in which a history can contradict what the service promises."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from tests.faults.history import Call


class Kind(StrEnum):
    """The promise that is broken."""

    LOST_WRITE = "an acknowledged write is lost"
    STALE_READ = "a response is older than one that was received before the call"
    DUPLICATE_CREATE = "one create made two tasks"
    CONTENT_IGNORED = "a request_id was accepted with other content"
    CONFLICTING_STATES = "one etag stands for two states"
    WRONG_RESPONSE = "the response is not that of the request"
    LOST_UPDATE = "a write undid another one"
    REFUSED_BUT_DONE = "a write was refused and took effect"
    DONE_TWICE = "a write took effect twice"
    UNEXPLAINED = "a state that no call made"
    ETAG_IGNORED = "a write with a stale etag succeeded"
    FALSE_ABORT = "a write was aborted although its etag was current"
    NO_OP_CHANGED = "the etag changed and nothing else"
    TIME_WENT_BACK = "a time of a task went back, or contradicts the status"
    TOGGLED = "a task that was completed is not complete"
    UNDELETED = "a task was seen after it was gone"
    DELETED_TWICE = "a task was deleted twice"
    ISOLATION = "a caller reached a task of another user"
    PAGE_REPEATS = "a walk over pages saw a task twice"
    PAGE_GAP = "a walk over pages missed a task"
    PAGE_ORDER = "a page is out of order or too long"
    PAGE_FILTER = "a page has tasks that the filter excludes"
    TOKEN_UNBOUND = "a page token of another list was accepted"
    WRONG_STATUS = "a status that does not fit the call"
    INTERNAL = "INTERNAL"
    CANCELLED = "CANCELLED for a client that did not cancel"
    UNDOCUMENTED = "a status or reason that is not in docs/reference/errors.md"
    RETRY_INFO = "RetryInfo is missing, superfluous or differs from docs/reference/errors.md"
    FAILED_WITHOUT_FAULT = "a call failed while nothing was broken"
    LATE = "a response came after the deadline"
    SLOW_RECOVERY = "no call succeeded soon after a fault"
    MEMORY = "the server's memory grew"
    STALL = "health checks waited for the event loop"


BUSY_MACHINE = frozenset({Kind.LATE, Kind.STALL, Kind.SLOW_RECOVERY, Kind.FAILED_WITHOUT_FAULT, Kind.MEMORY})
"""The kinds that a machine that is busy with something else can cause as well."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A contradiction, and the calls that show it."""

    kind: Kind
    subject: str
    """The task, the walk, the fault or the method."""
    calls: tuple[Call, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.kind.name}: {self.kind.value}: {self.subject}", *(f"    {call}" for call in self.calls)]
        return "\n".join(lines)


def first_of_each(found: Iterable[Anomaly]) -> list[Anomaly]:
    """The first anomaly of each kind: the others of one subject follow from it."""
    kinds: dict[Kind, Anomaly] = {}
    for anomaly in found:
        kinds.setdefault(anomaly.kind, anomaly)
    return list(kinds.values())
