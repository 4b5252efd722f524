"""The metrics: names, labels and values; callers cannot create labels."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from grpc import StatusCode
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from service.metrics.recorder import ALL_SERIES, CONNECTIONS, IN_FLIGHT, Metrics
from service.metrics.supervision import WorkerMetrics

GET = "/taskwell.v1.TaskService/GetTask"
LABELS = {"grpc_type": "unary", "grpc_service": "taskwell.v1.TaskService", "grpc_method": "GetTask"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics({GET: "unary"})


def handled(metrics: Metrics, code: str) -> float | None:
    return metrics.registry.get_sample_value("grpc_server_handled_total", {**LABELS, "grpc_code": code})


@pytest.mark.parametrize(
    ("code", "spelt"),
    [("OK", "OK"), ("NOT_FOUND", "NotFound"), ("CANCELLED", "Canceled"), ("INTERNAL", "Internal")],
)
def test_handled_total_counts_calls_by_code_as_go_spells_it(metrics: Metrics, code: str, spelt: str) -> None:
    for _ in range(3):
        metrics.on_call(GET, code, 0.004)
    assert handled(metrics, spelt) == 3


def test_handled_total_is_0_for_every_code_before_the_first_call(metrics: Metrics) -> None:
    text = generate_latest(metrics.registry).decode()
    found = set(re.findall(r'grpc_server_handled_total\{grpc_code="(\w+)".*\} 0.0', text))
    assert found == {code.name.title().replace("_", "") for code in StatusCode} - {"Ok", "Cancelled"} | {
        "OK",
        "Canceled",
    }
    assert metrics.registry.get_sample_value("grpc_server_started_total", LABELS) == 0


def test_started_total_counts_calls_that_have_not_ended(metrics: Metrics) -> None:
    metrics.on_start(GET)
    assert metrics.registry.get_sample_value("grpc_server_started_total", LABELS) == 1
    assert handled(metrics, "OK") == 0


def test_build_info_names_the_version(metrics: Metrics) -> None:
    (build,) = (family for family in metrics.registry.collect() if family.name == "taskwell_build_info")
    assert build.samples[0].labels["version"] == version("taskwell")


def test_handling_seconds_puts_durations_into_buckets(metrics: Metrics) -> None:
    for seconds in (0.0005, 0.004, 0.004, 60):
        metrics.on_call(GET, "OK", seconds)
    buckets = {
        bound: metrics.registry.get_sample_value("grpc_server_handling_seconds_bucket", {**LABELS, "le": bound})
        for bound in ("0.0005", "0.0025", "0.005", "30.0", "+Inf")
    }
    assert buckets == {"0.0005": 1, "0.0025": 1, "0.005": 3, "30.0": 3, "+Inf": 4}
    assert metrics.registry.get_sample_value("grpc_server_handling_seconds_sum", LABELS) == pytest.approx(60.0085)


def test_unknown_methods_share_one_label(metrics: Metrics) -> None:
    before = generate_latest(metrics.registry).count(b"\n")
    for number in range(1000):
        metrics.on_start(f"/made.up/Method{number}")
        metrics.on_call(f"/made.up/Method{number}", "UNIMPLEMENTED", 0.001)
    metrics.on_call("no method at all", "UNIMPLEMENTED", 0.001)
    text = generate_latest(metrics.registry).decode()
    assert 'grpc_code="Unimplemented",grpc_method="unknown",grpc_service="unknown",grpc_type="unary"} 1001.0' in text
    assert 'grpc_server_started_total{grpc_method="unknown",grpc_service="unknown",grpc_type="unary"} 1000.0' in text
    assert text.count("\n") - before < 25
    assert "made" not in text


def test_batch_size_is_recorded_by_operation(metrics: Metrics) -> None:
    for size in (1, 64, 200):
        metrics.on_batch("get", size)
    metrics.on_batch("create", 1)
    value = metrics.registry.get_sample_value
    assert value("taskwell_batch_size_count", {"operation": "get"}) == 3
    assert value("taskwell_batch_size_sum", {"operation": "get"}) == 265
    assert value("taskwell_batch_size_bucket", {"operation": "get", "le": "64.0"}) == 2
    assert value("taskwell_batch_size_count", {"operation": "create"}) == 1


def test_overloaded_total_counts_overload(metrics: Metrics) -> None:
    metrics.on_overload()
    assert metrics.registry.get_sample_value("taskwell_overloaded_total") == 1


def test_a_gauge_is_sampled(metrics: Metrics) -> None:
    values = [3.0, 5.0]
    metrics.watch(CONNECTIONS, lambda: values.pop())
    metrics.sample()
    assert metrics.registry.get_sample_value(CONNECTIONS.name) == 5
    metrics.sample()
    assert metrics.registry.get_sample_value(CONNECTIONS.name) == 3


def test_no_label_contains_a_user() -> None:
    labels = {label for series in ALL_SERIES for label in series.labels}
    grpc_labels = {"grpc_type", "grpc_service", "grpc_method", "grpc_code"}
    assert labels == {
        *grpc_labels,
        "operation",
        "version",
        "python_version",
        "grpc_version",
        "state",
        "cause",
        "worker",
    }


def test_workers_metrics_are_summed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for worker in (1, 2):
        metrics = Metrics({GET: "unary"}, worker)  # each in a process of its own, but for this test
        metrics.on_call(GET, "OK", 0.001)
        metrics.watch(IN_FLIGHT, lambda: 4)
        metrics.sample()
    assert handled(metrics, "OK") == 2
    assert metrics.registry.get_sample_value("grpc_server_handling_seconds_count", LABELS) == 2
    assert metrics.registry.get_sample_value(IN_FLIGHT.name) == 8


UNREADABLE = {
    "noise": (100).to_bytes(8, "little") + b"\x7f" * 4088,
    "cut off": b"\x01",
    "longer than it is": (2**20).to_bytes(8, "little") + bytes(100),
    "no JSON": (48).to_bytes(8, "little") + (4).to_bytes(4, "little") + b"none" + bytes(80),
    "no UTF-8": (48).to_bytes(8, "little") + (4).to_bytes(4, "little") + b"\xff" * 4 + bytes(80),
}


@pytest.mark.parametrize("name", ["counter_1.db", "gauge_livesum_9.db", "no_metric.db"])
@pytest.mark.parametrize("content", [*UNREADABLE.values(), None], ids=[*UNREADABLE, "a folder"])
def test_a_file_that_cannot_be_read_is_skipped_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, name: str
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    metrics = Metrics({GET: "unary"}, worker=2)
    metrics.on_call(GET, "OK", 0.001)
    (tmp_path / "counter_3.db").touch()  # of a worker that is just starting
    assert metrics.registry.get_sample_value("taskwell_metrics_files_unreadable") == 0
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    with capture_logs() as logs:
        for _ in range(3):
            assert metrics.registry.get_sample_value("taskwell_metrics_files_unreadable") == 1
            assert handled(metrics, "OK") == 1
    assert [(line["event"], list(line["files"])) for line in logs] == [("metrics files cannot be read", [name])]


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_a_worker_replaces_its_files_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    folder = tmp_path / "removed by a cleaner of temporary files"
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    Metrics({GET: "unary"}, worker=1).on_call(GET, "OK", 0.001)
    Metrics({GET: "unary"}, worker=11).on_call(GET, "OK", 0.001)
    (folder / "histogram_1.db").unlink()
    (folder / "histogram_1.db").write_bytes(content)
    metrics = Metrics({GET: "unary"}, worker=1)
    metrics.on_call(GET, "OK", 0.001)
    assert handled(metrics, "OK") == 3
    assert metrics.registry.get_sample_value("grpc_server_handling_seconds_count", LABELS) == 2
    assert metrics.registry.get_sample_value("taskwell_metrics_files_unreadable") == 0


def test_metrics_of_workers_are_those_of_the_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    value = Metrics({GET: "unary"}, worker=2).registry.get_sample_value
    supervisor = WorkerMetrics.of_supervisor(2)
    found = {cause: value("taskwell_worker_restarts_total", {"cause": cause}) for cause in ("exit", "hang", "start")}
    assert found == {"exit": 0, "hang": 0, "start": 0}
    supervisor.on_ready(2)
    supervisor.on_restart(1, "hang")
    supervisor.on_ready(1)
    supervisor.on_heartbeat_age(1, 3)
    assert value("taskwell_workers", {"state": "configured"}) == 2
    assert value("taskwell_workers", {"state": "ready"}) == 1
    assert value("taskwell_worker_restarts_total", {"cause": "hang"}) == 1
    assert value("taskwell_worker_heartbeat_age_seconds", {"worker": "1"}) == 3
    assert value("taskwell_worker_heartbeat_age_seconds", {"worker": "2"}) == 0


def test_a_restarted_worker_continues_the_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    Metrics({GET: "unary"}, worker=1).on_call(GET, "OK", 0.001)
    files = {path.name for path in tmp_path.iterdir()}
    second = Metrics({GET: "unary"}, worker=1)
    second.on_call(GET, "OK", 0.001)
    assert handled(second, "OK") == 2
    assert files == {path.name for path in tmp_path.iterdir()}
