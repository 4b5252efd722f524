"""OpenTelemetry's SDK in a real process: off, on by its variables, and with a collector that is away or silent."""

import json
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.testing import capture_logs

from service.tracing import sdk
from tests.running import Api, running_service, settings_for
from tests.server.starting import TIMEOUT, serving
from tests.tracing.collectors import collector, silent_collector

# Runs the service with a finder that refuses OpenTelemetry, as if the extra were not installed.
WITHOUT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Refuse())
sys.argv[1:1] = ["serve", "--grpc-address", "127.0.0.1:0"]
from service.__main__ import main
sys.exit(main())
"""


def imported(modules: str, prefix: str) -> str:
    """The modules with this prefix that are imported with these modules."""
    program = f"import sys, {modules}; print([name for name in sys.modules if name.startswith({prefix!r})])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT, check=True)
    return ran.stdout.strip()


@pytest.mark.parametrize(
    ("wanted", "environ"),
    [
        (False, {}),
        (False, {"OTEL_SERVICE_NAME": "tasks"}),
        (False, {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}),
        (False, {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}),
        (False, {"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_TRACES_EXPORTER": ""}),
        (True, {"OTEL_TRACES_EXPORTER": "otlp"}),
        (True, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_SDK_DISABLED": "false"}),
        (True, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4317"}),
    ],
)
def test_traces_are_on_if_a_variable_says_where_to_send_them(wanted: bool, environ: dict[str, str]) -> None:
    assert sdk.are_wanted(environ) is wanted


def test_a_service_without_traces_does_not_import_opentelemetry() -> None:
    assert imported("service.server.app, service.server.rest, service.metrics.endpoint", "opentelemetry") == "[]"


def test_only_the_module_sdk_imports_the_sdk() -> None:
    assert imported("service.tracing.spans", "opentelemetry.sdk") == "[]"


def test_spans_reach_a_collector_before_the_process_exits(tmp_path: Path) -> None:
    with collector() as received:
        with (
            serving(
                tmp_path,
                OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{received.address}",
                OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
                OTEL_SERVICE_NAME="tasks",
            ) as server,
            server.api() as api,
        ):
            api.create()
            assert server.end() == 0
        assert "taskwell.v1.TaskService/CreateTask" in {span.name for span in received.spans}
        [resource] = received.resources
        expected = {"service.name": "tasks", "deployment.environment.name": "test", "telemetry.sdk.language": "python"}
        assert resource.items() >= expected.items()


def test_a_collector_that_is_silent_delays_neither_calls_nor_the_shutdown(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.server.app._MIN_FLUSH", 0.1)
    monkeypatch.setattr("service.server.app._MAX_FLUSH", 0.1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")  # s; by default 10, and then the SDK waits for up to 30
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    with silent_collector() as address, capture_logs() as lines:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{address}")
        with running_service(settings_for(sqlite_url)) as service, grpc.insecure_channel(service) as channel:
            api = Api(channel)
            for _ in range(20):
                api.create()  # more spans than the queue holds
    assert "the last spans were not sent in time" in {line["event"] for line in lines}


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": "nonsense"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_MAX_QUEUE_SIZE": "0"},
    ],
    ids=lambda variables: next(iter(variables.values())),
)
def test_an_invalid_variable_turns_traces_off_with_a_line(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with capture_logs() as lines:
        assert sdk.start(variables) is None
    assert "traces are off" in lines[-1]["event"]


def test_malformed_headers_of_callers_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    provider = sdk.start({"OTEL_TRACES_EXPORTER": "console"})
    assert provider
    for state in ("no member", "a=1,a=2", "x" * 600):
        headers = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": state}
        TraceContextTextMapPropagator().extract(headers)
    provider.shutdown()
    assert not caplog.records


def test_traces_without_the_extra_are_off_with_a_line(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT],
        cwd=tmp_path,
        env={"OTEL_TRACES_EXPORTER": "otlp", "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        address = process.stdout.readline().split()[-1]
        with grpc.insecure_channel(address) as channel:
            Api(channel).create()
    finally:
        process.terminate()
        _, log = process.communicate(timeout=TIMEOUT)
    assert "traces are off: install taskwell[otel]" in [json.loads(line)["event"] for line in log.splitlines()]


def test_the_console_exporter_writes_lines_to_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    provider = sdk.start({"OTEL_TRACES_EXPORTER": "console"})
    assert provider
    provider.get_tracer("test").start_span("first").end()
    provider.get_tracer("test").start_span("second").end()
    provider.shutdown()
    written = capsys.readouterr()
    assert not written.out
    assert [json.loads(line)["name"] for line in written.err.splitlines()] == ["first", "second"]
