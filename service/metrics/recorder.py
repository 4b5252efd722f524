"""Records what happens in this process: hooks for the other packages, and values that are sampled once a second."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from service.metrics import series
from service.metrics.files import Layout, Sharing, Values, open_or_new
from service.metrics.series import CODES, SECONDS, UNKNOWN_METHOD, Kind, Series, rows_of

_SUM = len(SECONDS) + 1  # place of the sum of a duration, behind its first bucket


class Metrics:
    """The metrics of this process. What is counted can be scraped at once, and survives a kill.

    `methods` maps the full names (`/service/Method`) of the service's methods to their `grpc_type`; `errors` are pairs
    of a reason and an API. Processes with `sharing` are scraped together.
    """

    def __init__(
        self, methods: Mapping[str, str], errors: Iterable[tuple[str, str]] = (), sharing: Sharing | None = None
    ) -> None:
        labels = {method: _labels(method, grpc_type) for method, grpc_type in methods.items()}
        labels[""] = UNKNOWN_METHOD
        self.sharing = sharing
        self.counted_layout = Layout(rows_of(series.COUNTED, labels.values(), errors))
        self.current_layout = Layout(rows_of((*series.CURRENT, series.PID)))
        self.counted, self.current = self._open()
        self._place_methods(labels)
        self._errors = self.counted_layout.of(series.ERRORS)
        self._overloaded = self.counted_layout.of(series.OVERLOADED)[()]
        self._queue = self.counted_layout.of(series.QUEUE)
        self._connection_wait = self.counted_layout.of(series.CONNECTION_WAIT)
        self._statement = self.counted_layout.of(series.STATEMENT)
        self._batch_size = self.counted_layout.of(series.BATCH_SIZE)
        self._sampled: list[tuple[Values, int, float, Callable[[], float]]] = []
        self.watch(series.PID, os.getpid)

    def _open(self) -> tuple[Values, Values]:
        if self.sharing is None:
            return self.counted_layout.new(), self.current_layout.new()
        counted, current = self.sharing.counted(self.sharing.worker), self.sharing.current(self.sharing.worker)
        with suppress(OSError):
            current.unlink()
        return open_or_new(self.counted_layout, counted), open_or_new(self.current_layout, current)

    def _place_methods(self, labels: Mapping[str, tuple[str, str, str]]) -> None:
        started, received, sent = map(self.counted_layout.of, (series.STARTED, series.RECEIVED, series.SENT))
        handled, handling = map(self.counted_layout.of, (series.HANDLED, series.HANDLING))
        self._started = {method: started[each] for method, each in labels.items()}
        self._received = {method: received[each] for method, each in labels.items()}
        self._sent = {method: sent[each] for method, each in labels.items()}
        self._handled = {
            (method, code): (handled[*each, spelt], handling[each])
            for method, each in labels.items()
            for code, spelt in CODES.items()
        }

    def on_start(self, method: str) -> None:
        """Count a call that starts, by its full method name."""
        self.counted[self._started.get(method, self._started[""])] += 1

    def on_received(self, method: str) -> None:
        """Count a message of a request."""
        self.counted[self._received.get(method, self._received[""])] += 1

    def on_sent(self, method: str) -> None:
        """Count a message of a response."""
        self.counted[self._sent.get(method, self._sent[""])] += 1

    def on_call(self, method: str, code: str, seconds: float) -> None:
        """Count a finished call: full method name, status code (`NOT_FOUND`), duration (s)."""
        handled, handling = self._handled.get((method, code)) or self._handled["", code]
        values = self.counted
        values[handled] += 1
        values[handling + bisect_left(SECONDS, seconds)] += 1
        values[handling + _SUM] += seconds

    def on_error(self, reason: str, api: str) -> None:
        """Count a failed call by the reason in its ErrorInfo and the API of its caller."""
        if (labels := (reason, api)) in self._errors:
            self.counted[self._errors[labels]] += 1

    def on_overload(self) -> None:
        """Count a call that was refused because too many are in flight."""
        self.counted[self._overloaded] += 1

    def on_batch(self, operation: str, waits: Sequence[float]) -> None:
        """Record a batch that is sent to the database, and how long each of its calls has waited for that (s)."""
        values, queue, size = self.counted, self._queue[operation,], self._batch_size[operation,]
        values[size + bisect_left(series.BATCH_SIZE.buckets, len(waits))] += 1
        values[size + len(series.BATCH_SIZE.buckets) + 1] += len(waits)
        for seconds in waits:
            values[queue + bisect_left(SECONDS, seconds)] += 1
        values[queue + _SUM] += sum(waits)

    def on_connection_wait(self, operation: str, seconds: float) -> None:
        """Record how long a statement has waited for a connection (s), whether it got one or not."""
        self._observe(self._connection_wait[operation,], seconds)

    def on_statement(self, operation: str, seconds: float) -> None:
        """Record the duration of a statement (s), whether it succeeded or not."""
        self._observe(self._statement[operation,], seconds)

    def watch(self, watched: Series, value: Callable[[], float], *labels: str) -> None:
        """Have `sample` set a value to `value()`; if it is a counter, `value` counts from 0 in this process."""
        is_counter = watched.kind is Kind.COUNTER
        values, layout = (self.counted, self.counted_layout) if is_counter else (self.current, self.current_layout)
        place = layout.of(watched)[labels]
        self._sampled.append((values, place, values[place] if is_counter else 0.0, value))

    def sample(self) -> None:
        """Read the values that change too often to be recorded at every change, or elsewhere."""
        for values, place, before, value in self._sampled:
            values[place] = before + value()

    def _observe(self, place: int, seconds: float) -> None:
        self.counted[place + bisect_left(SECONDS, seconds)] += 1
        self.counted[place + _SUM] += seconds


def _labels(method: str, grpc_type: str) -> tuple[str, str, str]:
    _, service, name = method.split("/")
    return grpc_type, service, name
