"""The workload: the six methods by several users, whose workers share tasks and so get into each other's way.

Every choice comes from a seed. Each text that is written has a number of its own, so that the checker knows which call
wrote what it finds.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask
from taskwell.v1 import tasks_pb2

from tests.faults.history import Call, History, Recorder

INCOMPLETE, COMPLETE = tasks_pb2.TASK_STATUS_INCOMPLETE, tasks_pb2.TASK_STATUS_COMPLETE

FOREIGN, REUSED, OTHER_LIST, INVALID, FINAL = "foreign task", "reused request_id", "other list", "invalid", "final read"
PURPOSES = {
    FOREIGN: "the task of another user: must be NOT_FOUND",
    REUSED: "a request_id with other content: must be ALREADY_EXISTS",
    OTHER_LIST: "a page token of another list: must be INVALID_ARGUMENT",
    INVALID: "an invalid request: must be INVALID_ARGUMENT",
    FINAL: "reads everything after the last fault",
}

UNAVAILABLE_PAUSE = (0.1, 0.3)
"""Pause of a worker after a call that failed as UNAVAILABLE (s): a closed loop without one would call ever faster."""
_FEW, _MANY = 15, 40
"""Below and above this number of tasks, users create more, or fewer."""
_ATTEMPTS = 6
"""Most calls for one page, or for one create with a request_id."""
# Most deadlines are longer than the server's own limit, so that a call that hangs there is seen.
_DEADLINES = ((0.3, 5), (2.0, 15), (10.0, 40), (60.0, 40))


@dataclass(slots=True)
class Known:
    """A task as its user last saw it."""

    id: str
    etag: str
    request: tasks_pb2.CreateTaskRequest | None = None
    """The create, if it had a request_id and nothing more is sent for it."""


@dataclass(slots=True)
class User:
    """A user and the tasks that its workers know."""

    name: str
    tasks: dict[str, Known] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    tokens: list[tasks_pb2.ListTasksRequest] = field(default_factory=list)
    """Requests with a page token of this user, of late."""

    def learn(self, task: tasks_pb2.Task, request: tasks_pb2.CreateTaskRequest | None = None) -> None:
        known = self.tasks.setdefault(task.id, Known(task.id, task.etag))
        known.etag = task.etag
        known.request = request or known.request


@dataclass(frozen=True, slots=True)
class Load:
    """Size of a workload."""

    operations: int
    """Calls after which it ends."""
    users: int = 8
    workers: int = 6
    """Workers of each user. The last of them uses our client, the others raw stubs."""
    rate: float = 5000.0
    """Most calls per second."""
    seconds: float = 540.0
    """The workload ends after this time, whatever it has done."""


class Workload:
    """Runs users against a server and records their calls."""

    def __init__(self, address: str, load: Load, *, seed: int, history: History | None = None) -> None:
        self.history = history or History(seed)
        self.recorder = Recorder(address, self.history)
        self._load = load
        self._users = [User(f"user-{seed}-{number}") for number in range(load.users)]
        self.history.users = [user.name for user in self._users]
        self._seed = seed
        self._begun = 0.0
        self._stopped = False
        self.texts = itertools.count(1)
        self.walks = itertools.count(1)

    async def run(self) -> None:
        """Run all workers until the operations are done or the time is over."""
        self._begun = monotonic()
        workers = [
            Worker(self, user, random.Random(f"{self._seed} {user.name} {number}"), by_client=number == last)
            for last in [self._load.workers - 1]
            for user in self._users
            for number in range(self._load.workers)
        ]
        await asyncio.gather(*(worker.run() for worker in workers))

    def stop(self) -> None:
        """End the workload: each worker ends after its current operation."""
        self._stopped = True

    async def slot(self) -> bool:
        """Wait for the turn of one operation. False when the workload is over."""
        now, calls = monotonic(), len(self.history.calls)
        ahead = self._begun + calls / self._load.rate - now
        if self._stopped or calls >= self._load.operations or now > self._begun + self._load.seconds:
            return False
        if ahead > 0:
            await asyncio.sleep(ahead)
        return True

    def another(self, user: User, chance: random.Random) -> User:
        """A user other than this one."""
        return chance.choice([other for other in self._users if other is not user])

    async def read_everything(self) -> None:
        """Read all tasks of all users page by page, and get every task that was ever created."""
        chance = random.Random(self._seed)
        readers = [Worker(self, user, chance, by_client=False) for user in self._users]
        await asyncio.gather(*(reader.walk(tasks_pb2.ListTasksRequest(page_size=100), FINAL) for reader in readers))
        ids: dict[str, set[str]] = {user.name: set() for user in self._users}
        for call in self.history.calls:
            if call.method == "CreateTask" and call.code == "OK":
                ids[call.user].add(call.response.id)
            elif call.method == "ListTasks" and call.code == "OK":
                ids[call.user].update(task.id for task in call.response.tasks)
        await asyncio.gather(*(reader.get_all(sorted(ids[reader.user.name])) for reader in readers))

    async def close(self) -> None:
        """Close the connections."""
        await self.recorder.close()


class Worker:
    """Makes one call of a user after the other."""

    def __init__(self, workload: Workload, user: User, chance: random.Random, *, by_client: bool) -> None:
        self.user = user
        self._workload = workload
        self._chance = chance
        self._by_client = by_client
        self._operations: Sequence[tuple[Callable[[], Awaitable[object]], int]] = (
            (self._get, 24),
            (self._update, 22),
            (self._complete, 9),
            (self._reopen, 6),
            (self._together, 4),
            (self._walk, 6),
            (self._delete, 5),
            (self._again_gone, 3),
            (self._foreign, 4),
            (self._misuse, 3),
        )

    async def run(self) -> None:
        chance = self._chance
        names, weights = zip(*self._operations, strict=True)
        while await self._workload.slot():
            count = len(self.user.tasks)
            if not count or chance.random() < (0.4 if count < _FEW else 0.1 if count < _MANY else 0.03):
                await self._create()
            else:
                await chance.choices(names, weights)[0]()

    async def call(self, method: str, request: Any, **more: Any) -> Call:
        """Make a call, learn from its response, and pause if the service is away."""
        recorder = self._workload.recorder
        made = recorder.call_client if self._by_client else recorder.call
        deadline = self._chance.choices(*zip(*_DEADLINES, strict=True))[0]
        call = await made(self.user.name, method, request, deadline=deadline, **more)
        if isinstance(call.response, tasks_pb2.Task):
            self.user.learn(call.response)
        elif call.code == "NOT_FOUND" or (method == "DeleteTask" and call.code == "OK"):
            self._forget(call.task_id)
        elif call.code in {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}:
            await asyncio.sleep(self._chance.uniform(*UNAVAILABLE_PAUSE))
        return call

    async def walk(self, first: tasks_pb2.ListTasksRequest, purpose: str = "") -> None:
        """Read all pages of a list. A page that fails is asked for again."""
        number, request, failures = next(self._workload.walks), first, 0
        while failures < _ATTEMPTS:
            call = await self.call("ListTasks", request, walk=number, purpose=purpose)
            if call.code != "OK":
                failures += 1
                continue
            failures = 0
            for task in call.response.tasks:
                self.user.learn(task)
            if not call.response.next_page_token:
                return
            request = tasks_pb2.ListTasksRequest(
                page_size=request.page_size,
                status=request.status,
                order_by=request.order_by,
                page_token=call.response.next_page_token,
            )
            self.user.tokens = [*self.user.tokens[-4:], request]

    async def get_all(self, ids: Sequence[str]) -> None:
        """Get these tasks, several at a time. A call that fails is made again."""
        for first in range(0, len(ids), 8):
            await asyncio.gather(*(self._get_surely(each) for each in ids[first : first + 8]))

    async def _get_surely(self, task_id: str) -> None:
        for _ in range(_ATTEMPTS):
            call = await self.call("GetTask", tasks_pb2.GetTaskRequest(id=task_id), purpose=FINAL)
            if call.code in {"OK", "NOT_FOUND"}:
                return

    def _forget(self, task_id: str) -> None:
        if self.user.tasks.pop(task_id, None):
            self.user.gone = [*self.user.gone[-20:], task_id]

    def _text(self) -> str:
        return f"{self.user.name} {next(self._workload.texts)}"

    def _some(self) -> Known | None:
        """A task of the user; half of the time one of the newest, which all workers want."""
        known = list(self.user.tasks.values())
        if not known:
            return None
        return self._chance.choice(known[-3:] if self._chance.random() < 0.5 else known)

    def _etag(self, known: Known) -> str:
        return known.etag if self._chance.random() < 0.4 else ""

    async def _create(self) -> None:
        description = f"d {self._text()}" if self._chance.random() < 0.5 else ""
        request = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title=self._text(), description=description))
        if self._chance.random() < 0.4 and not self._by_client:
            await self.call("CreateTask", request)
            return
        request.request_id = str(UUID(int=self._chance.getrandbits(128), version=4))
        for _ in range(_ATTEMPTS):
            call = await self.call("CreateTask", request)
            if call.code == "OK":
                break
        else:
            return
        if self._chance.random() < 0.2:
            await self.call("CreateTask", request)
        if call.response.id in self.user.tasks:
            self.user.tasks[call.response.id].request = request

    async def _get(self) -> None:
        if known := self._some():
            await self.call("GetTask", tasks_pb2.GetTaskRequest(id=known.id))

    async def _update(self) -> None:
        if known := self._some():
            names = self._chance.choice((["title"], ["title"], ["description"], ["title", "description"]))
            values: dict[str, Any] = {name: self._text() for name in names}
            await self._change(known, self._etag(known), values)

    async def _reopen(self) -> None:
        if known := self._some():
            status = self._chance.choice((INCOMPLETE, INCOMPLETE, COMPLETE))
            await self._change(known, self._etag(known), {"status": status})

    async def _change(self, known: Known, etag: str, values: dict[str, Any]) -> None:
        task = tasks_pb2.Task(id=known.id, etag=etag, **values)
        await self.call("UpdateTask", tasks_pb2.UpdateTaskRequest(task=task, update_mask=FieldMask(paths=[*values])))

    async def _complete(self) -> None:
        if known := self._some():
            await self.call("CompleteTask", tasks_pb2.CompleteTaskRequest(id=known.id, etag=self._etag(known)))

    async def _together(self) -> None:
        """Change several fields of one task at the same moment, by a call each."""
        if known := self._some():
            etag = self._etag(known)
            await asyncio.gather(
                self._change(known, etag, {"title": self._text()}),
                self._change(known, etag, {"description": self._text()}),
                self._change(known, etag, {"status": COMPLETE}),
                self.call("CompleteTask", tasks_pb2.CompleteTaskRequest(id=known.id, etag=etag)),
            )

    async def _walk(self) -> None:
        await self.walk(
            tasks_pb2.ListTasksRequest(
                page_size=self._chance.randint(2, 15),
                status=self._chance.choice((tasks_pb2.TASK_STATUS_UNSPECIFIED, INCOMPLETE, COMPLETE)),
                order_by=self._chance.choice(("", "create_time", "create_time desc")),
            )
        )

    async def _delete(self) -> None:
        if known := self._some():
            request = tasks_pb2.DeleteTaskRequest(
                id=known.id, etag=self._etag(known), allow_missing=self._chance.random() < 0.2
            )
            await self.call("DeleteTask", request)

    async def _again_gone(self) -> None:
        """Use a task that was deleted."""
        if self.user.gone:
            known = Known(self._chance.choice(self.user.gone), "1")
            await self._on(known, "")

    async def _foreign(self) -> None:
        """Use a task of another user."""
        theirs = list(self._workload.another(self.user, self._chance).tasks.values())
        if theirs:
            await self._on(self._chance.choice(theirs), FOREIGN)

    async def _on(self, known: Known, purpose: str) -> None:
        task = tasks_pb2.Task(id=known.id, title=self._text())
        requests: dict[str, Any] = {
            "GetTask": tasks_pb2.GetTaskRequest(id=known.id),
            "UpdateTask": tasks_pb2.UpdateTaskRequest(task=task, update_mask=FieldMask(paths=["title"])),
            "DeleteTask": tasks_pb2.DeleteTaskRequest(id=known.id),
            "CompleteTask": tasks_pb2.CompleteTaskRequest(id=known.id),
        }
        method = self._chance.choice(sorted(requests))
        await self.call(method, requests[method], purpose=purpose)

    async def _misuse(self) -> None:
        """Send a request_id with other content, a page token of another list, or an invalid request."""
        kind = self._chance.randrange(3)
        if kind == 0 and (known := self._some()) and known.request:
            request = tasks_pb2.CreateTaskRequest(
                task=tasks_pb2.Task(title=self._text()), request_id=known.request.request_id
            )
            await self.call("CreateTask", request, purpose=REUSED)
        elif kind == 1 and self.user.tokens:
            await self._use_token_elsewhere()
        elif kind == 2:
            too_long = tasks_pb2.Task(title="x" * 256)
            await self.call("CreateTask", tasks_pb2.CreateTaskRequest(task=too_long), purpose=INVALID)

    async def _use_token_elsewhere(self) -> None:
        request = tasks_pb2.ListTasksRequest()
        others = [token for token in self._workload.another(self.user, self._chance).tokens if token]
        if others and self._chance.random() < 0.5:
            request.CopyFrom(self._chance.choice(others))
        else:
            request.CopyFrom(self._chance.choice(self.user.tokens))
            request.status = COMPLETE if request.status == INCOMPLETE else INCOMPLETE
        await self.call("ListTasks", request, purpose=OTHER_LIST)
