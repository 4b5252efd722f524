"""The metrics of all workers as families of prometheus_client, read anew by each scrape."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.metrics import series
from service.metrics.files import Layout, Values, supervisor_layout
from service.metrics.recorder import Metrics
from service.metrics.series import Kind, Labels, Series

_log = structlog.get_logger("metrics")

_ALONE = "0"
"""The label `worker` of a server with one process."""

_OF_MANY: dict[str, Callable[[Iterable[float]], float]] = {"sum": math.fsum, "max": max, "min": min}


def registry_of(metrics: Metrics, silent: Callable[[], float] = lambda: 0.0) -> CollectorRegistry:
    """A registry whose scrapes show these metrics, and those of the workers that share them.

    `silent` tells how long the event loop has stood still (s), where there is no supervisor to know it.
    """
    registry = CollectorRegistry()
    registry.register(_Exposition(metrics, silent))
    return registry


class _Exposition(Collector):
    def __init__(self, metrics: Metrics, silent: Callable[[], float]) -> None:
        self._metrics = metrics
        self._silent = silent
        self._versions = (version("taskwell"), platform.python_version(), version("grpcio"))
        self._unreadable: dict[str, str] = {}  # files of the last scrape, and why

    def collect(self) -> Iterator[Metric]:
        metrics, sharing = self._metrics, self._metrics.sharing
        unreadable: dict[str, str] = {}
        if sharing:
            others = [worker for worker in range(1, sharing.count + 1) if worker != sharing.worker]
            counted = _read(
                metrics.counted_layout, {str(other): sharing.counted(other) for other in others}, unreadable
            )
            current = _read(
                metrics.current_layout, {str(other): sharing.current(other) for other in others}, unreadable
            )
            own = str(sharing.worker)
            counted, current = {own: metrics.counted, **counted}, {own: metrics.current, **current}
        else:
            counted, current = {_ALONE: metrics.counted}, {_ALONE: metrics.current}
        for each in series.COUNTED:
            yield _sums(each, metrics.counted_layout, counted.values())
        for each in series.CURRENT:
            yield self._current(each, current)
        yield from self._supervised(unreadable)
        if unreadable not in ({}, self._unreadable):
            _log.warning("metrics files cannot be read", files=unreadable)
        self._unreadable = unreadable
        yield _family(series.FILES_UNREADABLE, {(): [len(unreadable)]})
        yield _family(series.BUILD, {self._versions: [1]})
        yield from self._processes(current)

    def _supervised(self, unreadable: dict[str, str]) -> Iterator[Metric]:
        if sharing := self._metrics.sharing:
            layout = supervisor_layout(range(1, sharing.count + 1))
            found = _read(layout, {"": sharing.supervisor}, unreadable)
        else:
            layout = supervisor_layout([int(_ALONE)])
            found = {"": layout.new()}
            for labels, value in {("configured",): 1.0, ("ready",): 1.0}.items():
                found[""][layout.of(series.WORKERS)[labels]] = value
            found[""][layout.of(series.HEARTBEAT_AGE)[_ALONE,]] = self._silent()
        for each in series.SUPERVISED:
            yield _sums(each, layout, found.values())

    def _current(self, each: Series, workers: Mapping[str, Values]) -> Metric:
        """A metric of the workers that live: one value for each, or one for all."""
        rows: dict[Labels, list[float]] = {}
        for labels, place in self._metrics.current_layout.of(each).items():
            known = {worker: values[place] for worker, values in workers.items() if not math.isnan(values[place])}
            if each.of_workers == "each":
                rows |= {(*labels, worker): [value] for worker, value in known.items()}
            elif known:
                rows[labels] = [_OF_MANY[each.of_workers](known.values())]
        return _family(each, rows)

    def _processes(self, workers: Mapping[str, Values]) -> Iterator[Metric]:
        rows: dict[str, dict[Labels, list[float]]] = {each.name: {} for each in series.PROCESS}
        for process in self._current(series.PID, workers).samples:
            of_process = ProcessCollector(pid=partial(int, process.value), registry=None)
            for sample in (sample for family in of_process.collect() for sample in family.samples):
                rows[sample.name][process.labels["worker"],] = [sample.value]
        for each in series.PROCESS:
            yield _family(each, rows[each.name])


def _read(layout: Layout, files: Mapping[str, Path], unreadable: dict[str, str]) -> dict[str, Values]:
    """The values in files; a file that is missing is left out, one that cannot be read is noted as well."""
    found: dict[str, Values] = {}
    for name, path in files.items():
        try:
            found[name] = layout.read(path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            unreadable[path.name] = str(error)
    return found


def _sums(each: Series, layout: Layout, workers: Collection[Values]) -> Metric:
    rows = {
        labels: [math.fsum(values[place + number] for values in workers) for number in range(each.size)]
        for labels, place in layout.of(each).items()
    }
    return _family(each, rows)


def _family(each: Series, rows: Mapping[Labels, Sequence[float]]) -> Metric:
    if each.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(each.name, each.description, labels=each.labels)
        bounds = [*map(str, map(float, each.buckets)), "+Inf"]
        for labels, (*counts, seconds) in rows.items():
            histogram.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), seconds)
        return histogram
    make = CounterMetricFamily if each.kind is Kind.COUNTER else GaugeMetricFamily
    family = make(each.name, each.description, labels=each.labels)
    for labels, [value] in rows.items():
        family.add_metric(labels, value)
    return family
