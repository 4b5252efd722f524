"""examples/python: events of another system become one task each, however they are delivered."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from grpc import StatusCode
from taskwell.v1.tasks_pb2 import CreateTaskRequest
from taskwell_client import connect

from tests.clients.scripted import scripted_server
from tests.running import new_user, running_service, settings_for

EXAMPLE = Path(__file__).parents[2] / "examples" / "python"


def event(number: int, user: str, order: str = "Two litres of milk") -> dict[str, Any]:
    return {"id": str(number), "user": user, "order": order}


def deliver(address: str, events: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE / "events.py"],
        input="".join(json.dumps(each) + "\n" for each in events),
        env={"PATH": os.environ["PATH"], "TASKWELL_CLIENT_TARGET": address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_events_that_are_delivered_twice_and_by_two_at_once_are_one_task_each(sqlite_url: str) -> None:
    users = [new_user(), new_user()]
    events = [event(number, users[number % 2]) for number in range(20)]
    with running_service(settings_for(sqlite_url)) as address:
        with ThreadPoolExecutor() as pool:
            ran = list(pool.map(lambda order: deliver(address, order), (events * 2, events[::-1])))
        with connect(address) as client:
            titles = [Counter(task.title for task in client.as_user(user).list()) for user in users]
    assert [(each.returncode, each.stderr) for each in ran] == [(0, "")] * 2
    assert [each["id"] for each in events * 2] == ran[0].stdout.split()
    assert [Counter(f"Ship order {number}" for number in range(first, 20, 2)) for first in (0, 1)] == titles


def test_an_event_that_cannot_become_a_task_is_named_and_does_not_hold_up_the_others(sqlite_url: str) -> None:
    user = new_user()
    events = [event(1, user), event(1, user, "Another order under the same id"), event(2, user, "\0"), event(3, user)]
    with running_service(settings_for(sqlite_url)) as address:
        ran = deliver(address, events)
    assert (ran.returncode, ran.stdout.split()) == (0, ["1", "1", "2", "3"])
    assert re.findall(r"^event (\d) cannot become a task", ran.stderr, re.MULTILINE) == ["1", "2"]


def test_what_is_unavailable_for_long_is_waited_for() -> None:
    with scripted_server() as server:
        server.answers(*[StatusCode.UNAVAILABLE] * 4, StatusCode.RESOURCE_EXHAUSTED, b"")
        ran = deliver(server.address, [event(1, "alice")])
        ids = {CreateTaskRequest.FromString(request).request_id for _, request in server.attempts}
        assert (len(server.attempts), len(ids)) == (6, 1)
    assert (ran.returncode, ran.stdout.split()) == (0, ["1"])
    assert ran.stderr.count("waiting: ") == 2
