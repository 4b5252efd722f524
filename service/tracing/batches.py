"""Spans of batches: the statements that serve sampled calls, with links to these.

A batch serves calls of many traces. Its statement has one span, in the trace of its first sampled call, with a link to
the span of every sampled call; the spans of the others have a link to it. Names and attributes are those of the stable
semantic conventions for database spans (https://opentelemetry.io/docs/specs/semconv/database/). No span has SQL.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, Tracer

from service.call_record import CONNECTION, STATEMENT, BatchRecord

_SHORT = 1_000_000
"""A wait for a connection up to this long has no span (ns)."""


class BatchSpans:
    """Follows a batch from phase to phase, for its sampled calls.

    It does not refer to the records of the calls, which refer to the batch: a cycle would wait for the garbage
    collector.
    """

    __slots__ = ("_attributes", "_calls", "_name", "_parent", "_statement", "_tracer", "_waits_since")

    def __init__(self, tracer: Tracer, batch: BatchRecord, database: Mapping[str, str | int]) -> None:
        self._tracer = tracer
        self._name = f"{batch.operation} tasks"
        self._attributes = {**database, "db.operation.name": batch.operation, "taskwell.batch.size": batch.size}
        self._calls: list[Span] = []
        self._parent: Context | None = None
        self._waits_since: int | None = None  # for a connection (ns)
        self._statement: Span | None = None

    def add(self, call: Span, context: Context) -> None:
        """Add the span of a sampled call; `context` is the parent of its further spans."""
        self._calls.append(call)
        self._parent = self._parent or context

    def on_phase(self, phase: str | None) -> None:
        """Begin and end spans as the batch enters a phase."""
        if phase == CONNECTION:
            self._waits_since = self._waits_since or time.time_ns()
            return
        self._end_wait()
        self._end_statement()
        if phase == STATEMENT:
            self._begin_statement()

    def _end_wait(self) -> None:
        """Make the span of the wait for a connection, if that took long or failed."""
        if self._waits_since is None:
            return
        began, self._waits_since, now = self._waits_since, None, time.time_ns()
        if now - began > _SHORT or sys.exception():
            span = self._tracer.start_span("connection", self._parent, start_time=began)
            _note_exception(span)
            span.end(now)

    def _begin_statement(self) -> None:
        links = [Link(call.get_span_context()) for call in self._calls]
        span = self._tracer.start_span(self._name, self._parent, SpanKind.CLIENT, self._attributes, links)
        for call in self._calls[1:]:
            if call.is_recording():  # it has not ended meanwhile
                call.add_link(span.get_span_context())
        self._statement = span

    def _end_statement(self) -> None:
        if self._statement:
            _note_exception(self._statement)
            self._statement.end()
            self._statement = None


def _note_exception(span: Span) -> None:
    """Mark the span as failed if an exception is on its way, by the code of the database if there is one."""
    error = sys.exception()
    if error is None:
        return
    cause = error.__cause__ or error
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    span.set_attribute("error.type", code or type(cause).__name__)
    if code:
        span.set_attribute("db.response.status_code", code)
    span.set_status(StatusCode.ERROR)
