"""The metrics: names, labels and values; callers cannot create labels."""

import os
import re
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
from grpc import StatusCode
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from service.metrics import series
from service.metrics.endpoint import LoopLag
from service.metrics.exposition import registry_of
from service.metrics.files import Sharing, current_file
from service.metrics.recorder import Metrics
from service.metrics.series import ALL_SERIES, SECONDS, Kind
from service.metrics.supervision import WorkerMetrics

GET = "/taskwell.v1.TaskService/GetTask"
LABELS = {"grpc_type": "unary", "grpc_service": "taskwell.v1.TaskService", "grpc_method": "GetTask"}


def make(sharing: Sharing | None = None) -> Metrics:
    return Metrics({GET: "unary"}, [("TASK_NOT_FOUND", "grpc"), ("TASK_NOT_FOUND", "rest")], sharing)


@pytest.fixture
def metrics() -> Metrics:
    return make()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return registry_of(metrics).get_sample_value(name, labels)


def handled(metrics: Metrics, code: str) -> float | None:
    return value(metrics, "grpc_server_handled_total", **LABELS, grpc_code=code)


def exposed(metrics: Metrics) -> str:
    return generate_latest(registry_of(metrics)).decode()


@pytest.mark.parametrize(
    ("code", "spelt"),
    [("OK", "OK"), ("NOT_FOUND", "NotFound"), ("CANCELLED", "Canceled"), ("INTERNAL", "Internal")],
)
def test_handled_total_counts_calls_by_code_as_go_spells_it(metrics: Metrics, code: str, spelt: str) -> None:
    for _ in range(3):
        metrics.on_call(GET, code, 0.004)
    assert handled(metrics, spelt) == 3


def test_handled_total_is_0_for_every_code_before_the_first_call(metrics: Metrics) -> None:
    found = set(re.findall(r'grpc_server_handled_total\{grpc_code="(\w+)".*\} 0.0', exposed(metrics)))
    assert found == {code.name.title().replace("_", "") for code in StatusCode} - {"Ok", "Cancelled"} | {
        "OK",
        "Canceled",
    }
    assert value(metrics, "grpc_server_started_total", **LABELS) == 0


def test_started_total_counts_calls_that_have_not_ended(metrics: Metrics) -> None:
    metrics.on_start(GET)
    assert value(metrics, "grpc_server_started_total", **LABELS) == 1
    assert handled(metrics, "OK") == 0


def test_messages_are_counted_by_direction(metrics: Metrics) -> None:
    metrics.on_received(GET)
    metrics.on_received(GET)
    metrics.on_sent(GET)
    assert value(metrics, "grpc_server_msg_received_total", **LABELS) == 2
    assert value(metrics, "grpc_server_msg_sent_total", **LABELS) == 1


def test_errors_total_counts_by_reason_and_api(metrics: Metrics) -> None:
    metrics.on_error("TASK_NOT_FOUND", "rest")
    metrics.on_error("MADE_UP", "rest")
    assert value(metrics, "taskwell_errors_total", reason="TASK_NOT_FOUND", api="rest") == 1
    assert value(metrics, "taskwell_errors_total", reason="TASK_NOT_FOUND", api="grpc") == 0
    assert "MADE_UP" not in exposed(metrics)


def test_build_info_names_the_version(metrics: Metrics) -> None:
    (build,) = (family for family in registry_of(metrics).collect() if family.name == "taskwell_build_info")
    assert build.samples[0].labels["version"] == version("taskwell")


def test_handling_seconds_puts_durations_into_buckets(metrics: Metrics) -> None:
    for seconds in (0.0005, 0.004, 0.004, 60):
        metrics.on_call(GET, "OK", seconds)
    buckets = {
        bound: value(metrics, "grpc_server_handling_seconds_bucket", **LABELS, le=bound)
        for bound in ("0.0005", "0.0025", "0.005", "30.0", "+Inf")
    }
    assert buckets == {"0.0005": 1, "0.0025": 1, "0.005": 3, "30.0": 3, "+Inf": 4}
    assert value(metrics, "grpc_server_handling_seconds_sum", **LABELS) == pytest.approx(60.0085)
    assert value(metrics, "grpc_server_handling_seconds_count", **LABELS) == 4


def test_unknown_methods_share_one_label(metrics: Metrics) -> None:
    before = exposed(metrics).count("\n")
    for number in range(1000):
        metrics.on_start(f"/made.up/Method{number}")
        metrics.on_received(f"/made.up/Method{number}")
        metrics.on_sent(f"/made.up/Method{number}")
        metrics.on_call(f"/made.up/Method{number}", "UNIMPLEMENTED", 0.001)
    metrics.on_call("no method at all", "UNIMPLEMENTED", 0.001)
    text = exposed(metrics)
    labels = {"grpc_type": "unary", "grpc_service": "unknown", "grpc_method": "unknown"}
    assert value(metrics, "grpc_server_handled_total", **labels, grpc_code="Unimplemented") == 1001
    assert value(metrics, "grpc_server_started_total", **labels) == 1000
    assert text.count("\n") == before
    assert "made" not in text


def test_batches_are_recorded_by_operation(metrics: Metrics) -> None:
    for size in (1, 64, 200):
        metrics.on_batch("get", [0.002] * size)
    metrics.on_batch("create", [0.0])
    assert value(metrics, "taskwell_batch_size_count", operation="get") == 3
    assert value(metrics, "taskwell_batch_size_sum", operation="get") == 265
    assert value(metrics, "taskwell_batch_size_bucket", operation="get", le="64.0") == 2
    assert value(metrics, "taskwell_batch_size_count", operation="create") == 1
    assert value(metrics, "taskwell_queue_seconds_count", operation="get") == 265
    assert value(metrics, "taskwell_queue_seconds_sum", operation="get") == pytest.approx(0.53)
    assert value(metrics, "taskwell_queue_seconds_bucket", operation="get", le="0.001") == 0
    assert value(metrics, "taskwell_queue_seconds_bucket", operation="get", le="0.0025") == 265


def test_statements_are_recorded_by_operation(metrics: Metrics) -> None:
    metrics.on_connection_wait("list", 0.2)
    metrics.on_statement("list", 0.4)
    assert value(metrics, "taskwell_connection_wait_seconds_bucket", operation="list", le="0.1") == 0
    assert value(metrics, "taskwell_connection_wait_seconds_bucket", operation="list", le="0.25") == 1
    assert value(metrics, "taskwell_statement_seconds_sum", operation="list") == 0.4
    assert value(metrics, "taskwell_statement_seconds_count", operation="get") == 0


def test_overloaded_total_counts_overload(metrics: Metrics) -> None:
    metrics.on_overload()
    assert value(metrics, "taskwell_overloaded_total") == 1


def test_a_gauge_is_sampled_and_not_there_before(metrics: Metrics) -> None:
    values = [3.0, 5.0]
    metrics.watch(series.CONNECTIONS, lambda: values.pop())
    assert value(metrics, series.CONNECTIONS.name) is None
    metrics.sample()
    assert value(metrics, series.CONNECTIONS.name) == 5
    metrics.sample()
    assert value(metrics, series.CONNECTIONS.name) == 3


def test_durations_have_the_same_buckets_from_half_a_millisecond_to_30_seconds() -> None:
    durations = [each for each in ALL_SERIES if each.kind is Kind.HISTOGRAM and each.name.endswith("_seconds")]
    assert len(durations) == 4
    assert {each.buckets for each in durations} == {SECONDS}
    assert (SECONDS[0], SECONDS[-1]) == (0.0005, 30)


def test_no_label_contains_a_user() -> None:
    labels = {label for each in ALL_SERIES for label in each.labels}
    grpc_labels = {"grpc_type", "grpc_service", "grpc_method", "grpc_code"}
    closed = {"operation", "reason", "api", "cause", "state", "worker", "file", "outcome"}
    assert labels == {*grpc_labels, *closed, "version", "python_version", "grpc_version"}


def test_workers_metrics_are_summed(tmp_path: Path) -> None:
    for worker in (1, 2):
        metrics = make(Sharing(tmp_path, worker, 2))  # each in a process of its own, but for this test
        metrics.on_call(GET, "OK", 0.001)
        metrics.watch(series.IN_FLIGHT, lambda: 4)
        metrics.watch(series.DATABASE_UP, partial(float, worker - 1))
        metrics.watch(series.READY, lambda: 1)
        metrics.sample()
    assert handled(metrics, "OK") == 2
    assert value(metrics, "grpc_server_handling_seconds_count", **LABELS) == 2
    assert value(metrics, series.IN_FLIGHT.name) == 8
    assert value(metrics, series.DATABASE_UP.name) == 0
    assert value(metrics, series.READY.name, worker="1") == value(metrics, series.READY.name, worker="2") == 1


def test_the_gauges_of_a_dead_worker_vanish_and_its_counters_stay(tmp_path: Path) -> None:
    for worker in (1, 2):
        metrics = make(Sharing(tmp_path, worker, 2))
        metrics.on_call(GET, "OK", 0.001)
        metrics.watch(series.IN_FLIGHT, lambda: 4)
        metrics.watch(series.READY, lambda: 1)
        metrics.sample()
    current_file(tmp_path, 1).unlink()
    assert handled(metrics, "OK") == 2
    assert value(metrics, series.IN_FLIGHT.name) == 4
    assert value(metrics, series.READY.name, worker="1") is None
    assert value(metrics, series.FILES_UNREADABLE.name) == 0


def test_a_restarted_worker_continues_the_counts(tmp_path: Path) -> None:
    dropped = 5
    for before in (0, 1):
        metrics = make(Sharing(tmp_path, 1, 2))
        metrics.watch(series.LINES_DROPPED, lambda: dropped)
        assert handled(metrics, "OK") == before
        metrics.on_call(GET, "OK", 0.001)
        metrics.sample()
        metrics.sample()
        assert value(metrics, series.LINES_DROPPED.name) == dropped * (before + 1)
    assert {path.name for path in tmp_path.iterdir()} == {"counted-1", "current-1"}


def of_another_version(content: bytes) -> bytes:
    return bytes(8) + content[8:]


UNREADABLE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "garbage": lambda _: b"\x7f" * 4096,
    "shortened": lambda content: content[:-8],
    "of another version": of_another_version,
}


@pytest.mark.parametrize("broken", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("name", ["counted-1", "current-1", "supervisor"])
def test_a_file_that_cannot_be_read_is_left_out_counted_and_logged_once(
    tmp_path: Path, name: str, broken: Callable[[bytes], bytes]
) -> None:
    WorkerMetrics(tmp_path, 2)
    make(Sharing(tmp_path, 1, 2)).on_call(GET, "OK", 0.001)
    metrics = make(Sharing(tmp_path, 2, 2))
    metrics.on_call(GET, "OK", 0.001)
    (tmp_path / name).write_bytes(broken((tmp_path / name).read_bytes()))
    registry = registry_of(metrics)
    with capture_logs() as logs:
        for _ in range(3):
            assert registry.get_sample_value(series.FILES_UNREADABLE.name) == 1
    assert [(line["event"], list(line["files"])) for line in logs] == [("metrics files cannot be read", [name])]
    assert handled(metrics, "OK") == (1 if name == "counted-1" else 2)


@pytest.mark.parametrize("broken", UNREADABLE.values(), ids=UNREADABLE)
def test_a_worker_replaces_its_files_that_cannot_be_read(tmp_path: Path, broken: Callable[[bytes], bytes]) -> None:
    folder = tmp_path / "removed by a cleaner of temporary files"
    make(Sharing(folder, 1, 2)).on_call(GET, "OK", 0.001)
    content = (folder / "counted-1").read_bytes()
    (folder / "counted-1").unlink()  # the one that is mapped keeps its size
    (folder / "counted-1").write_bytes(broken(content))
    with capture_logs() as logs:
        metrics = make(Sharing(folder, 1, 2))
    metrics.on_call(GET, "OK", 0.001)
    assert handled(metrics, "OK") == 1
    assert [line["event"] for line in logs] == ["metrics file is replaced: it cannot be read"]
    assert value(make(Sharing(folder, 2, 2)), series.FILES_UNREADABLE.name) == 0


def test_a_worker_counts_alone_where_there_can_be_no_files(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as logs:
        metrics = make(Sharing(tmp_path / "file", 1, 2))
    metrics.on_call(GET, "OK", 0.001)
    assert handled(metrics, "OK") == 1
    assert {line["event"] for line in logs} >= {"metrics are not shared with the other workers"}


def test_metrics_of_workers_are_those_of_the_supervisor(tmp_path: Path) -> None:
    metrics = make(Sharing(tmp_path, 2, 2))
    current = current_file(tmp_path, 2)
    assert current.exists()
    supervisor = WorkerMetrics(tmp_path, 2)
    found = {
        cause: value(metrics, "taskwell_worker_restarts_total", cause=cause) for cause in ("exit", "hang", "start")
    }
    assert found == {"exit": 0, "hang": 0, "start": 0}
    supervisor.on_ready(2)
    supervisor.on_restart(1, "hang")
    supervisor.on_ready(1)
    supervisor.on_heartbeat_age(1, 3)
    assert value(metrics, "taskwell_workers", state="configured") == 2
    assert value(metrics, "taskwell_workers", state="ready") == 1
    assert value(metrics, "taskwell_worker_restarts_total", cause="hang") == 1
    assert value(metrics, "taskwell_worker_heartbeat_age_seconds", worker="1") == 3
    assert value(metrics, "taskwell_worker_heartbeat_age_seconds", worker="2") == 0
    supervisor.on_restart(2, "exit")
    assert not current.exists()


def test_metrics_of_workers_of_a_server_with_one_process(metrics: Metrics) -> None:
    registry = registry_of(metrics, lambda: 4.0)
    assert registry.get_sample_value("taskwell_workers", {"state": "configured"}) == 1
    assert registry.get_sample_value("taskwell_workers", {"state": "ready"}) == 1
    assert registry.get_sample_value("taskwell_worker_restarts_total", {"cause": "exit"}) == 0
    assert registry.get_sample_value("taskwell_worker_heartbeat_age_seconds", {"worker": "0"}) == 4


def test_process_metrics_are_those_of_each_worker(metrics: Metrics) -> None:
    metrics.sample()
    open_fds = value(metrics, "process_open_fds", worker="0")
    with Path(os.devnull).open():
        assert value(metrics, "process_open_fds", worker="0") == (open_fds or 0) + 1
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"):
        assert (value(metrics, name, worker="0") or 0) > 0, name


def test_event_loop_lag_is_the_longest_of_15_seconds() -> None:
    lag = LoopLag()
    lag.see(0.2)
    lag.see(0.1)
    assert [lag.longest() for _ in range(15)] == [0.2] * 15
    assert lag.longest() == 0
