"""Checks of statuses, times and samples: what callers see of a fault, and for how long."""

import re
from bisect import bisect
from collections.abc import Iterator
from pathlib import Path

from tests.faults.anomalies import Anomaly, Kind
from tests.faults.history import CLIENT, Call, FaultRecord, History
from tests.faults.workload import FOREIGN, INVALID, OTHER_LIST, REUSED

SLACK = 2.0
"""Time that a response may be late, on a machine that is busy with the test itself (s)."""
MOST_GROWTH = 150 * 2**20
"""Most growth of the server's resident memory in a run (bytes)."""
MOST_STALL = 2.0
"""Longest health check while nothing stops the server (s)."""
_SHORT = 5.0
"""Deadlines below this (s) may pass on a busy machine without a fault."""

_ROW = re.compile(r"^\| (?P<code>[A-Z_]+) \| `(?P<reason>[A-Z_]+)` \| (?P<retry>[^|]*) \|", re.MULTILINE)

_WANTED = {FOREIGN: "NOT_FOUND", REUSED: "ALREADY_EXISTS", OTHER_LIST: "INVALID_ARGUMENT", INVALID: "INVALID_ARGUMENT"}
_OF_METHODS = {
    "CreateTask": {"OK"},
    "ListTasks": {"OK"},
    "GetTask": {"OK", "NOT_FOUND"},
    "UpdateTask": {"OK", "NOT_FOUND", "ABORTED"},
    "DeleteTask": {"OK", "NOT_FOUND", "ABORTED"},
    "CompleteTask": {"OK", "NOT_FOUND", "ABORTED"},
}
_FAILURES = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})


def documented() -> dict[str, tuple[str, str]]:
    """Code and retry delay of each reason, from the table in docs/reference/errors.md."""
    text = (Path(__file__).parents[2] / "docs" / "reference" / "errors.md").read_text()
    return {row["reason"]: (row["code"], row["retry"].strip()) for row in _ROW.finditer(text)}


class Statuses:
    """The checks of a history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._documented = documented()
        self._short_of_memory = [fault for fault in history.faults if fault.memory_short]
        self._away = [fault for fault in history.faults if fault.server_away]

    def check(self) -> Iterator[Anomaly]:
        """All anomalies of single calls, of recoveries and of samples."""
        for call in self._history.calls:
            yield from self._status(call)
            yield from self._lateness(call)
        for fault, seconds in recoveries(self._history):
            if seconds > fault.recovers_within:
                failed = [call for call in self._history.calls if fault.end < call.start < fault.end + seconds]
                yield Anomaly(Kind.SLOW_RECOVERY, f"{fault.name}: {seconds:.1f} s", (*failed[:3],))
        yield from self._samples()

    def _status(self, call: Call) -> Iterator[Anomaly]:
        if call.code not in _FAILURES and not self._fits(call):
            kind = {"INTERNAL": Kind.INTERNAL, "CANCELLED": Kind.CANCELLED}.get(call.code, Kind.WRONG_STATUS)
            if call.purpose == OTHER_LIST and call.code == "OK":
                kind = Kind.TOKEN_UNBOUND
            yield Anomaly(kind, call.method, (call,))
        elif call.code in _FAILURES and not self._is_excused(call):
            yield Anomaly(Kind.FAILED_WITHOUT_FAULT, call.method, (call,))
        if call.code != "OK":
            yield from self._details(call)

    def _fits(self, call: Call) -> bool:
        """True if a call of this purpose may have this status."""
        if call.purpose in {REUSED, FOREIGN} and call.code == "OK":
            return True  # they have anomalies of their own, if they are any
        if call.code == "INTERNAL" and _overlaps(self._short_of_memory, call):
            return True
        if wanted := _WANTED.get(call.purpose):
            return call.code == wanted
        if call.method == "CreateTask" and call.code == "ALREADY_EXISTS":
            return True  # the same
        return call.code in _OF_METHODS[call.method]

    def _details(self, call: Call) -> Iterator[Anomaly]:
        if not call.reason:
            # Made by the client's own library: it gave up, or it has no connection.
            gave_up = call.code in {"DEADLINE_EXCEEDED", "CANCELLED"}
            if not gave_up and not (call.code == "UNAVAILABLE" and _overlaps(self._away, call)):
                yield Anomaly(Kind.UNDOCUMENTED, f"{call.method}: no details", (call,))
            return
        code, retry = self._documented.get(call.reason, ("", ""))
        if call.code != code:
            yield Anomaly(Kind.UNDOCUMENTED, call.method, (call,))
        elif retry != ("" if call.retry_delay is None else f"{call.retry_delay:g} s") and retry != "in the message":
            yield Anomaly(Kind.RETRY_INFO, call.method, (call,))

    def _is_excused(self, call: Call) -> bool:
        """True if a fault may be the reason of a failure."""
        if call.code == "DEADLINE_EXCEEDED" and call.deadline < _SHORT:
            return True
        return _overlaps(self._history.faults, call)

    def _lateness(self, call: Call) -> Iterator[Anomaly]:
        limit = call.deadline
        if call.client != CLIENT:  # which makes several calls of one
            limit = min(limit, self._history.max_call_seconds)
        if call.end - call.start > limit + SLACK:
            stopped = sum(fault.end - fault.start + fault.recovers_within for fault in _overlapping(self._away, call))
            if call.end - call.start > limit + SLACK + stopped:
                yield Anomaly(Kind.LATE, f"{call.method}: {call.end - call.start:.1f} s", (call,))

    def _samples(self) -> Iterator[Anomaly]:
        samples = self._history.samples
        if samples and max(sample.resident for sample in samples) - samples[0].resident > MOST_GROWTH:
            most = max(sample.resident for sample in samples)
            yield Anomaly(Kind.MEMORY, f"from {samples[0].resident >> 20} to {most >> 20} MiB")
        for sample in samples:
            is_away = any(
                fault.start <= sample.at + sample.health_seconds and sample.at <= fault.end + fault.recovers_within
                for fault in self._away
            )
            if sample.health_seconds > MOST_STALL and not is_away:
                yield Anomaly(Kind.STALL, f"a health check took {sample.health_seconds:.1f} s")


def recoveries(history: History) -> list[tuple[FaultRecord, float]]:
    """For each fault, the time from the first call after its end to the first success of a call that began after it."""
    calls = sorted(history.calls, key=lambda call: call.start)
    starts = [call.start for call in calls]
    found = []
    for fault in history.faults:
        after = calls[bisect(starts, fault.end) :]
        ends = (call.end for call in after if call.code == "OK")
        # Not from the end of the fault: the workload may be over by then.
        if after and (first := next(ends, None)):
            found.append((fault, first - after[0].start))
    return found


def _overlapping(faults: list[FaultRecord], call: Call) -> Iterator[FaultRecord]:
    for fault in faults:
        if fault.start <= call.end and call.start <= fault.end + fault.recovers_within:
            yield fault


def _overlaps(faults: list[FaultRecord], call: Call) -> bool:
    return next(_overlapping(faults, call), None) is not None
