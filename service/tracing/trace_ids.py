"""Ids of new traces, drawn before the SDK is asked for a span: most calls are then not offered to its sampler.

To ask the SDK costs a call about a twentieth of its CPU time, only to learn that it is not sampled. Its samplers decide
by the id of the trace, so the answer for an id that was drawn here is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import getrandbits

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased


class TraceIds(RandomIdGenerator):
    """Draws the ids of new traces. `sampled` is the share of traces that the sampler takes, None if it is unknown."""

    def __init__(self, sampled: float | None) -> None:
        self._bound = None if sampled is None else TraceIdRatioBased.get_bound_for_rate(sampled)
        self._drawn = 0

    def draw(self) -> bool:
        """Draw the id of the next trace. Returns False if the sampler would not take it."""
        if self._bound is None:
            return True
        low = getrandbits(64)  # the part that decides
        if low >= self._bound:
            return False
        self._drawn = getrandbits(64) << 64 | low
        return True

    def generate_trace_id(self) -> int:
        drawn, self._drawn = self._drawn, 0
        return drawn or super().generate_trace_id()


def sampled_share(environ: Mapping[str, str]) -> float | None:
    """Return the share of new traces that the sampler of the variables takes; None if it is not known here."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower().removeprefix("parentbased_")
    if name == "always_off":
        return 0.0
    if name != "traceidratio":
        return None
    try:
        share = float(environ.get("OTEL_TRACES_SAMPLER_ARG", ""))
    except ValueError:
        return None
    return share if 0 <= share <= 1 else None
