"""Ids of new traces: drawn before the SDK is asked, with the decision that its sampler would take."""

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider, sampling

from service.tracing.trace_ids import TraceIds, sampled_share


@pytest.mark.parametrize(
    ("share", "environ"),
    [
        (None, {}),
        (None, {"OTEL_TRACES_SAMPLER": "parentbased_always_on"}),
        (0.0, {"OTEL_TRACES_SAMPLER": "Always_Off"}),
        (0.0, {"OTEL_TRACES_SAMPLER": "parentbased_always_off"}),
        (0.01, {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}),
        (0.5, {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}),
        # The SDK takes all of these.
        (None, {"OTEL_TRACES_SAMPLER": "traceidratio"}),
        (None, {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1 %"}),
        (None, {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}),
        (None, {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"}),
    ],
)
def test_the_share_of_sampled_traces_is_that_of_the_variables(share: float | None, environ: dict[str, str]) -> None:
    assert sampled_share(environ) == share


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_sampler_takes_exactly_the_traces_that_were_drawn(share: float) -> None:
    ids = TraceIds(share)
    sampler = sampling.ParentBasedTraceIdRatio(share)
    tracer = TracerProvider(sampler=sampler, id_generator=ids, shutdown_on_exit=False).get_tracer("test")
    drawn = [ids.draw() for _ in range(2000)]
    assert abs(sum(drawn) - 2000 * share) < 200  # ten times the standard deviation
    for _ in range(200):
        if ids.draw():
            assert tracer.start_span("test", Context()).is_recording()


def test_a_trace_id_is_used_once() -> None:
    ids = TraceIds(1.0)
    assert ids.draw()
    assert len({ids.generate_trace_id() for _ in range(3)}) == 3
    assert TraceIds(None).draw()
