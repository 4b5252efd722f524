"""The record of a call: its id, where it is, and how long each phase took. For log lines, metrics and traces.

The interceptor sets `current_call`, batching and the database fill the phases in. A call is in one phase at a time:
`queue` (it waits for admission, or for its batch), `connection` (its batch waits for a database connection),
`statement` (its batch runs in the database).
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

REQUEST_ID_KEY = "x-request-id"
"""The metadata key, and the HTTP header, of the id of a call."""

_MAX_ID_LENGTH = 128

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-|\Z)")

QUEUE = "queue"
CONNECTION = "connection"
STATEMENT = "statement"

OTHER = "other"
"""The operation of statements outside of batches."""


class BatchRecord:
    """The phase of a batch and the time of each, for all of its calls; times are of `time.perf_counter` (s).

    It has the ids of its calls and not their records, which refer to it: a cycle would wait for the garbage collector.
    """

    __slots__ = (
        "connection_seconds",
        "operation",
        "phase",
        "request_ids",
        "since",
        "size",
        "spans",
        "statement_seconds",
    )

    def __init__(self, now: float, operation: str = OTHER, request_ids: tuple[str, ...] = (), size: int = 1) -> None:
        self.operation = operation
        self.size = size
        """The number of calls."""
        self.spans: Any = None
        """Has `on_phase`, which is called with each phase; for tracing, None without a sampled call."""
        self.phase: str | None = None
        self.since = now
        self.connection_seconds = 0.0
        self.statement_seconds = 0.0
        self.request_ids = request_ids

    def enter(self, phase: str | None, now: float) -> None:
        """End the current phase, and begin this one; None for none."""
        if self.phase == CONNECTION:
            self.connection_seconds += now - self.since
        elif self.phase == STATEMENT:
            self.statement_seconds += now - self.since
        self.phase, self.since = phase, now
        if self.spans:
            self.spans.on_phase(phase)


class CallRecord:
    """One call, from its arrival to its end."""

    __slots__ = (
        *("api", "batch", "caller", "details", "peer", "request_id", "started"),
        *("_connection_seconds", "_queue_seconds", "_queued", "_statement_seconds"),
    )

    def __init__(self, request_id: str, api: str, started: float, details: Any = None) -> None:  # noqa: ANN401 - gRPC is not imported here
        self.request_id = request_id
        self.api = api
        """`grpc` or `rest`."""
        self.started = started
        self.caller: Any = None
        """The Caller, once authenticated."""
        self.peer = ""
        """The address of an HTTP client, as gRPC writes it; that of a gRPC client is in the context of its call."""
        self.details = details
        """Method and metadata of the call, a grpc.HandlerCallDetails."""
        self.batch: BatchRecord | None = None
        self._queued: float | None = None
        self._queue_seconds = self._connection_seconds = self._statement_seconds = 0.0

    @property
    def trace_id(self) -> str | None:
        """The trace of the call: that of its caller (https://www.w3.org/TR/trace-context/), or None."""
        for name, value in self.details.invocation_metadata or () if self.details else ():
            if name == "traceparent" and isinstance(value, str) and (found := _TRACEPARENT.match(value)):
                return found[1]
        return None

    @property
    def phase(self) -> str | None:
        """`queue`, `connection`, `statement`, or None before and after them."""
        if self._queued is not None:
            return QUEUE
        return self.batch.phase if self.batch else None

    def enter_queue(self, now: float) -> None:
        """Begin to wait; a call that waits again after a batch keeps the times of both."""
        if batch := self.batch:
            batch.enter(None, now)
            self._connection_seconds += batch.connection_seconds
            self._statement_seconds += batch.statement_seconds
            self.batch = None
        self._queued = now

    def leave_queue(self, now: float, batch: BatchRecord | None = None) -> None:
        """End the wait, for a batch or otherwise."""
        if self._queued is not None:
            self._queue_seconds += now - self._queued
            self._queued = None
        self.batch = batch

    def seconds(self, now: float) -> dict[str, float]:
        """The time spent in each phase until now (s)."""
        times = {QUEUE: self._queue_seconds, CONNECTION: self._connection_seconds, STATEMENT: self._statement_seconds}
        if batch := self.batch:
            times[CONNECTION] += batch.connection_seconds
            times[STATEMENT] += batch.statement_seconds
        if self._queued is not None:
            times[QUEUE] += now - self._queued
        elif batch and batch.phase:
            times[batch.phase] += now - batch.since
        return times


current_call: ContextVar[CallRecord | None] = ContextVar("current_call", default=None)
"""The call of this asyncio task."""
current_batch: ContextVar[BatchRecord | None] = ContextVar("current_batch", default=None)
"""The batch of this asyncio task, which serves several calls: `current_call` is then any of them."""


class RequestIds:
    """Takes the id of a call from its metadata, or makes a random one: a count would tell callers of others' calls."""

    def __init__(self) -> None:
        self._random = random.Random(os.urandom(16))  # noqa: S311 - an id, no secret

    def of(self, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """Return the caller's id if it is 1 to 128 printable ASCII characters, else a new one."""
        for name, value in metadata:
            if name == REQUEST_ID_KEY and is_request_id(value):
                return str(value)
        return self.new()

    def new(self) -> str:
        return f"{self._random.getrandbits(96):024x}"


def is_request_id(value: str | bytes) -> bool:
    """True for 1 to 128 printable ASCII characters."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_ID_LENGTH and value.isascii() and value.isprintable()
