"""The trace of a call: the headers of OpenTelemetry's current span, in programs that use it."""

from __future__ import annotations

import sys
from typing import Any

from taskwell_client.caller import Metadata


def with_trace(metadata: Any) -> Metadata:  # noqa: ANN401 - of a caller, and not to be awaited any longer
    """Add the headers that let a call continue the current trace, if the program uses OpenTelemetry.

    This package does not depend on OpenTelemetry, and does not import it either: a program that has a span has done so.
    """
    if "opentelemetry.trace" not in sys.modules:
        given: Metadata = metadata
        return given
    from opentelemetry.propagate import inject

    headers: dict[str, str] = {}
    inject(headers)
    return (*metadata, *((name.lower(), value) for name, value in headers.items()))
