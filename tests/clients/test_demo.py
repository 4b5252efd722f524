"""`make demo` calls every RPC, and explains how to start a server if there is none."""

import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import grpc

from tests.running import Api, new_user, running_service, settings_for

DEMO = Path(__file__).parents[2] / "tools" / "demo.py"


def demo(address: str, user: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", DEMO, address, "--user", user], capture_output=True, text=True, check=False
    )


def test_the_demo_shows_every_rpc_and_what_errors_look_like_and_leaves_nothing_behind(sqlite_url: str) -> None:
    user = new_user()
    with running_service(settings_for(sqlite_url)) as address, grpc.insecure_channel(address) as channel:
        ran = demo(address, user)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert not Api(channel, user).list().tasks
    shown = Counter(re.findall(r"^(\w+): ", ran.stdout, re.MULTILINE))
    assert shown == {
        "CreateTask": 2,
        "GetTask": 2,
        "ListTasks": 1,
        "UpdateTask": 2,
        "CompleteTask": 1,
        "DeleteTask": 1,
    }
    assert len(re.findall(r"^  request {$", ran.stdout, re.MULTILINE)) == 9
    assert len(re.findall(r"^  response {", ran.stdout, re.MULTILINE)) == 6
    assert re.findall(r"^  error (.*?):", ran.stdout, re.MULTILINE) == [
        "INVALID_ARGUMENT, INVALID_FIELD",
        "ABORTED, ETAG_STALE",
        "NOT_FOUND, TASK_NOT_FOUND",
    ]


def test_the_demo_shows_an_error_that_it_did_not_ask_for_and_fails(sqlite_url: str) -> None:
    with running_service(settings_for(sqlite_url)) as address:
        ran = demo(address, "not a user")
    assert ran.returncode == 1
    assert "error UNAUTHENTICATED, CALLER_INVALID" in ran.stdout
    assert ran.stderr == "demo: this call should have succeeded\n"


def test_the_demo_without_a_server_says_how_to_start_one() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody listens, and nobody else gets this port meanwhile
        address = f"127.0.0.1:{held.getsockname()[1]}"
        ran = demo(address, new_user())
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr == f"demo: there is no Taskwell at {address}: run 'make run' first\n"
