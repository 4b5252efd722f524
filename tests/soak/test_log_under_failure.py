"""The short form of tests/soak/log_lines.py."""

from tests.soak.log_lines import read_lines


def test_every_line_of_two_workers_under_failure_is_a_json_object() -> None:
    lines = read_lines(1000)
    assert lines.bad == []
    assert lines.count >= 1000
    assert {"starting", "worker ready", "rpc", "stopped"} <= set(lines.events)
