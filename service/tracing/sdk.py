"""Starts and stops OpenTelemetry's SDK, as its standard variables (OTEL_...) say.

This module and trace_ids.py import the SDK, and only when traces are on: the package is an extra.
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_log = structlog.get_logger("tracing")

_EXPORTERS = "OTEL_TRACES_EXPORTER"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

# The first two log a line for each malformed header of a caller, the others for each attempt that is repeated.
_TALKATIVE = ("opentelemetry.trace.propagation.tracecontext", "opentelemetry.trace.span", "opentelemetry.exporter")


def are_wanted(environ: Mapping[str, str]) -> bool:
    """True if the variables name an exporter or an OTLP endpoint, and do not disable the SDK."""
    exporters = _value(environ, _EXPORTERS)
    if exporters == "none" or _value(environ, "OTEL_SDK_DISABLED") == "true":
        return False
    return any(_value(environ, name) for name in (_EXPORTERS, *_ENDPOINTS))


def honours_parents(environ: Mapping[str, str]) -> bool:
    """True if the sampler does what the caller's trace says, where there is one."""
    return (_value(environ, "OTEL_TRACES_SAMPLER") or "parentbased_always_on").startswith("parentbased_")


def start(environ: Mapping[str, str]) -> TracerProvider | None:
    """Start the SDK. Traces must not keep the service from serving: if they cannot start, log why and return None."""
    try:
        provider = _provider(environ)
    except ImportError as error:
        _log.warning("traces are off: install taskwell[otel]", cause=str(error))
    except Exception as error:  # noqa: BLE001 - the SDK and its exporters raise what they like for a value they refuse
        _log.warning("traces are off: an OTEL_ variable is invalid", cause=str(error))
    else:
        _log.info("traces are on", sampler=provider.sampler.get_description())
        return provider
    return None


async def stop(provider: TracerProvider, seconds: float) -> None:
    """Send the spans that wait, for at most `seconds`: the collector may be away, or silent."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any longer
            loop.call_soon_threadsafe(ended.set)

    # A thread of its own, because the executor's threads are waited for when the loop is closed.
    threading.Thread(target=shut_down, name="traces", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        _log.warning("the last spans were not sent in time", seconds=seconds)


def _provider(environ: Mapping[str, str]) -> TracerProvider:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from service.tracing.trace_ids import TraceIds, sampled_share

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    ours = Resource({"service.name": "taskwell", "service.version": version("taskwell"), "process.pid": os.getpid()})
    resource = Resource.create(ours.merge(OTELResourceDetector().detect()).attributes)
    exporters = [*_exporters(environ)]
    ids = TraceIds(sampled_share(environ))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=ids)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporters(environ: Mapping[str, str]) -> Iterator[SpanExporter]:
    """Yield the exporters that the variables name. Raises ValueError for one that is not installed."""
    for name in (_value(environ, _EXPORTERS) or "otlp").split(","):
        if name.strip() == "console":
            yield _console()
        elif name.strip() != "none":
            yield _installed(name.strip(), environ)


def _console() -> SpanExporter:
    """Return an exporter that writes a line of JSON for each span to the log: standard output is not for it."""
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: f"{span.to_json(indent=None)}\n")


def _installed(name: str, environ: Mapping[str, str]) -> SpanExporter:
    entry = name
    if name == "otlp":
        protocol = next(filter(None, (_value(environ, each) for each in _PROTOCOLS)), "grpc")
        entry = f"otlp_proto_{protocol.removesuffix('/protobuf')}"
    found = [*entry_points(group="opentelemetry_traces_exporter", name=entry)]
    if not found:
        raise ValueError(f"no exporter {entry!r} is installed ({_EXPORTERS}, {_PROTOCOLS[1]})")
    exporter: SpanExporter = found[0].load()()
    return exporter


def _value(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip().lower()
