"""Two users who attack each other's ids: each must see the same as if the other did not exist.

    python -m tests.soak.isolation [OPERATIONS]      (1,000,000 of them, on SQLite and on PostgreSQL)

The victim works through a list of operations that chance made from a seed, one after the other. What is compared is all
that the answers hold, byte for byte; only what the server makes up (ids, times, page tokens) is replaced by when the
victim first saw it, so that what was equal stays equal, and what was later, later.
"""

import random
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from taskwell.v1 import tasks_pb2

from service.log import configure_log
from tests.methods import METHODS, Target, attempts, names_a_task
from tests.postgres import fresh_database, running_postgres
from tests.running import COMPLETE, INCOMPLETE, Api, refusal_of, running_service, settings_for

SEED = 20261121
AT_ONCE = 16
"""Calls in flight of the attacker."""
_KEPT = 200
"""Approximate number of the victim's tasks."""
_NO_TASK = "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234"
_MARK = "only for the eyes of the victim"


class View:
    """The victim's view in a form that can be compared between runs."""

    def __init__(self) -> None:
        self._digest = sha256()
        self._ids: dict[str, str] = {}
        self._moments: dict[tuple[int, int], int] = {}
        self.seen = 0

    def add(self, answer: Message) -> None:
        self._digest.update(type(answer).__name__.encode())
        if isinstance(answer, tasks_pb2.Task):
            answer = self._comparable(answer)
        if isinstance(answer, tasks_pb2.ListTasksResponse):
            answer.next_page_token = "more" if answer.next_page_token else ""
            for task in answer.tasks:
                task.CopyFrom(self._comparable(task))
        self._digest.update(answer.SerializeToString(deterministic=True))
        self.seen += 1

    def add_refusal(self, error: Any) -> None:
        self._digest.update(f"{error.code()} {error.details()} {refusal_of(error)}".encode())
        self.seen += 1

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def _comparable(self, task: tasks_pb2.Task) -> tasks_pb2.Task:
        task.id = self._ids.setdefault(task.id, f"task {len(self._ids)}")
        for name in ("create_time", "update_time", "complete_time"):
            if task.HasField(name):
                moment: Timestamp = getattr(task, name)
                # The victim's calls follow each other: what is seen first is also what was first.
                at = self._moments.setdefault((moment.seconds, moment.nanos), len(self._moments))
                moment.CopyFrom(Timestamp(seconds=at))
        return task


class Victim:
    """A user with random operations, the same in every run."""

    def __init__(self, api: Api, ids: list[str]) -> None:
        self.api = api
        self.ids = ids
        """Ids of the victim's tasks in the order of creation. The attacker reads them."""
        self.theirs = ""
        """An id of one of the attacker's tasks, if there is one."""
        self.view = View()
        self._random = random.Random(SEED)
        self._token = ""

    def act(self) -> None:
        """Do the next operation, and add its result to the view."""
        kind, chosen = self._random.random(), self._random.random()
        mine = self.ids[int(chosen * len(self.ids))] if self.ids else _NO_TASK
        try:
            self.view.add(self._operation(kind, mine)())
        except grpc.RpcError as error:
            self.view.add_refusal(error)

    def _operation(self, kind: float, mine: str) -> Callable[[], Message]:
        number = self.view.seen
        foreign = self.theirs or _NO_TASK
        etag = self._random.choice(["", "1", "2"])
        choices: list[tuple[float, Callable[[], Message]]] = [
            (0.04 if len(self.ids) > _KEPT else 0.30, lambda: self._create(number)),
            (0.50, lambda: self.api.get(mine)),
            (0.65, lambda: self.api.update(mine, title=f"{_MARK} {number}", etag=etag)),
            (0.75, lambda: self.api.complete(mine, etag=etag)),
            (0.80, lambda: self.api.update(mine, ["status"], status=INCOMPLETE)),
            (0.86, lambda: self._list(number)),
            (0.90, lambda: self._delete(mine)),
            (0.925, lambda: self.api.get(foreign)),
            (0.95, lambda: self.api.update(foreign, title=_MARK)),
            (0.975, lambda: self.api.complete(foreign)),
            (1.00, lambda: self._delete(foreign)),
        ]
        return next(operation for most, operation in choices if kind < most)

    def _create(self, number: int) -> Message:
        request_id = f"0192f0c1-2d3e-7f4a-8b5c-{number:012x}" if number % 2 else ""
        task = self.api.create(f"{_MARK} {number}", "x" * (number % 50), request_id=request_id)
        self.ids.append(task.id)
        return task

    def _delete(self, task_id: str) -> Message:
        self.api.delete(task_id)
        self.ids.remove(task_id)
        return Empty()

    def _list(self, number: int) -> Message:
        status, order = (0, INCOMPLETE, COMPLETE)[number % 3], ("", "create_time")[number % 2]
        return self.api.list(page_size=1 + number % 20, status=status, order_by=order)

    def look_around(self) -> None:
        """Add all tasks to the view, page by page."""
        for task in self.api.walk(page_size=7):
            self.view.add(task)


class Attacker:
    """A user who tries every method with the victim's ids and request ids."""

    def __init__(self, api: Api, victim: Victim) -> None:
        self._api = api
        self._victim = victim
        self._random = random.Random(1)
        self.done = 0
        self.outcomes: set[str] = set()

    def attack(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            calls = [self._call(number) for number in range(AT_ONCE)]
            for method, call in calls:
                self.done += 1
                if call.exception() is None:
                    answer = call.result()
                    assert _MARK not in str(answer), "the attacker sees what is the victim's"
                    if method == "CreateTask":
                        self._victim.theirs = answer.id
                    assert not names_a_task(method), f"{method} of the victim's task: {answer}"
                self.outcomes.add(f"{method} {call.code().name}")

    def _call(self, number: int) -> tuple[str, Any]:
        ids = self._victim.ids
        task = tasks_pb2.Task(id=self._random.choice(ids[-20:] or [_NO_TASK]), title="Mine now", etag="1")
        target = Target(task, f"0192f0c1-2d3e-7f4a-8b5c-{self._victim.view.seen:012x}")
        method = sorted(METHODS)[number % len(METHODS)]
        request: Any = self._random.choice(attempts(method, target))
        if names_a_task(method) and getattr(request, "allow_missing", False):
            request.allow_missing = False  # it would succeed, and do nothing
        return method, self._api.start(method, request)


def attacked(address: str, operations: int) -> tuple[int, View, set[str]]:
    """Run operations of both. Returns the number of the victim's, the victim's view, and the results of the attacks."""
    with grpc.insecure_channel(address) as channel, grpc.insecure_channel(address) as other:
        victim = Victim(Api(channel), [])
        attacker = Attacker(Api(other), victim)
        over = threading.Event()
        failed: list[Exception] = []

        def attack() -> None:
            try:
                attacker.attack(over.is_set)
            except Exception as error:  # noqa: BLE001 - raised below, in the thread that waits
                failed.append(error)

        thread = threading.Thread(target=attack)
        thread.start()
        try:
            for acts in count(1):
                victim.act()
                if failed or acts + attacker.done >= operations:
                    break
        finally:
            over.set()
            thread.join()
        if failed:
            raise failed[0]
        victim.look_around()
    return acts, victim.view, attacker.outcomes


def alone(address: str, acts: int) -> View:
    """The victim's view of a number of operations without an attacker."""
    with grpc.insecure_channel(address) as channel:
        victim = Victim(Api(channel), [])
        for _ in range(acts):
            victim.act()
        victim.look_around()
    return victim.view


def urls() -> Iterator[tuple[str, str]]:
    """Yield an empty database of either kind, and its name."""
    with tempfile.TemporaryDirectory() as folder:
        yield "SQLite", f"sqlite:///{folder}/taskwell.db"
    with running_postgres() as postgres, fresh_database(postgres) as url:
        yield "PostgreSQL", url


def is_as_alone(address: str, operations: int) -> tuple[bool, str]:
    """Compare the victim's view with and without the attacker. Returns whether they are equal, and a summary."""
    acts, view, outcomes = attacked(address, operations)
    told = f"{operations:,} operations, {acts:,} of them the victim's; the attacks: {', '.join(sorted(outcomes))}"
    return view.hexdigest() == alone(address, acts).hexdigest(), told


def main() -> None:
    configure_log("warning", "auto")
    operations = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    for name, url in urls():
        with running_service(settings_for(url, migrate=True)) as address:
            same, told = is_as_alone(address, operations)
        print(f"{name}: {told}", flush=True)
        if not same:
            sys.exit(f"{name}: the victim's view differs from that without the attacker")
        print(f"{name}: the victim's view is byte for byte that without the attacker", flush=True)


if __name__ == "__main__":
    main()
