"""Targets on this machine, to which a token may be sent over plain text."""

import pytest
from taskwell_client.targets import is_local

LOCAL = (
    *("localhost", "localhost:50051", "127.0.0.1:50051", "127.8.8.8", "[::1]:50051", "::1", "[::1]"),
    *("dns:localhost:50051", "dns:///localhost:50051", "dns://8.8.8.8/127.0.0.1:50051", "dns:///[::1]:50051"),
    *("ipv4:127.0.0.1:1,127.0.0.2:2", "ipv6:[::1]:50051", "ipv6:%5B::1%5D:50051"),
    *("unix:/run/taskwell.sock", "unix:///run/taskwell.sock", "unix-abstract:taskwell"),
)
REMOTE = (
    *("tasks.example:50051", "tasks", "10.0.0.1:50051", "[2001:db8::1]:50051", "2001:db8::1", ""),
    *("localhost.example:50051", "127.0.0.1.example:50051", "dns:///tasks.example", "dns://127.0.0.1/tasks.example:1"),
    *("ipv4:127.0.0.1:1,10.0.0.1:1", "ipv6:[::1]:1,[2001:db8::1]:1", "ipv4:", "xds:///localhost", "localhost/x"),
    *("0.0.0.0:50051", "[::]:50051", "passthrough:localhost", "LOCALHOST.example"),
)


@pytest.mark.parametrize("target", LOCAL)
def test_what_stays_on_this_machine(target: str) -> None:
    assert is_local(target)


@pytest.mark.parametrize("target", REMOTE)
def test_what_may_leave_it(target: str) -> None:
    assert not is_local(target)
