"""The checker: finds where a history contradicts docs/operations/reliability.md."""

from collections.abc import Iterator

from taskwell.v1 import tasks_pb2

from tests.faults.anomalies import Anomaly, Kind, first_of_each
from tests.faults.history import Call, History
from tests.faults.outcomes import Content, changed, may_have_happened, state_of
from tests.faults.pages import check_walk
from tests.faults.statuses import Statuses
from tests.faults.task_history import TaskHistory
from tests.faults.workload import FOREIGN, REUSED

INCOMPLETE = tasks_pb2.TASK_STATUS_INCOMPLETE


def check(history: History) -> list[Anomaly]:
    """All anomalies of a history, for each task and walk the first of each kind."""
    return Checker(history).check()


class Checker:
    """Sorts the calls of a history by task, walk and create, and checks each of these."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._tasks: dict[str, TaskHistory] = {}
        self._of_users: dict[str, list[TaskHistory]] = {user: [] for user in history.users}
        self._walks: dict[int, list[Call]] = {}
        self._creates: dict[str, list[Call]] = {}
        """Creates by the title that they ask for."""
        self._reused: dict[str, list[Call]] = {}
        """Creates with other content, by request_id."""
        self._found: list[Anomaly] = []

    def check(self) -> list[Anomaly]:
        for call in self._history.calls:
            if call.response is not None:
                self._take_response(call)
        for call in self._history.calls:
            self._take_call(call)
        self._check_creates()
        for task in self._tasks.values():
            if task.seen:
                self._found += first_of_each(task.check())
        for pages in self._walks.values():
            self._found += first_of_each(check_walk(pages, self._of_users[pages[0].user]))
        self._found += Statuses(self._history).check()
        return self._found

    def _take_response(self, call: Call) -> None:
        response = call.response
        if isinstance(response, tasks_pb2.ListTasksResponse):
            for task in response.tasks:
                self._see(call, task)
        elif isinstance(response, tasks_pb2.Task):
            if problem := _mismatch(call):
                self._found.append(Anomaly(problem, f"task {call.task_id or response.id}", (call,)))
                if problem is Kind.WRONG_RESPONSE and response.id != call.task_id and call.method != "CreateTask":
                    return
            self._see(call, response)

    def _see(self, call: Call, task: tasks_pb2.Task) -> None:
        if not task.title.startswith(f"{call.user} ") or call.purpose == FOREIGN:
            self._found.append(Anomaly(Kind.ISOLATION, f"task {task.id}", (call,)))
            return
        history = self._tasks.get(task.id)
        if history is None:
            history = self._tasks[task.id] = TaskHistory(task.id)
            self._of_users[call.user].append(history)
        history.seen.append((call, state_of(task)))

    def _take_call(self, call: Call) -> None:
        if call.method == "CreateTask":
            if call.purpose == REUSED:
                self._reused.setdefault(call.request.request_id, []).append(call)
            self._creates.setdefault(call.request.task.title, []).append(call)
        elif call.method == "ListTasks":
            if call.walk and call.code == "OK":
                self._walks.setdefault(call.walk, []).append(call)
        elif call.purpose != FOREIGN:
            self._take_call_for_task(call)
        elif call.code == "OK" and call.method == "DeleteTask":
            self._found.append(Anomaly(Kind.ISOLATION, f"task {call.task_id}", (call,)))

    def _take_call_for_task(self, call: Call) -> None:
        history = self._tasks.get(call.task_id)
        if history is None:
            return  # nobody ever saw the task
        if call.code == "NOT_FOUND":
            history.missing.append(call)
        if call.method == "DeleteTask":
            history.deletes.append(call)
        elif call.method != "GetTask":
            history.writes.append(call)

    def _check_creates(self) -> None:
        """Each create made its task once, and each task was made by a create."""
        made: dict[str, list[TaskHistory]] = {}
        for task in self._tasks.values():
            if title := self._title_at_birth(task):
                made.setdefault(title, []).append(task)
                if calls := self._creates.get(title):
                    asked = calls[0].request.task
                    task.created_with = Content(asked.title, asked.description, INCOMPLETE)
                if not any(map(may_have_happened, calls or ())):
                    kind = Kind.REFUSED_BUT_DONE if calls else Kind.UNEXPLAINED
                    self._found.append(Anomaly(kind, f"task {task.id}", (*(calls or ())[:1], task.seen[0][0])))
        for tasks in made.values():
            alive = [task for task in tasks if not any(map(may_have_happened, task.deletes))]
            if len(alive) > 1 or (len(tasks) > 1 and not self._requested(tasks[0])):
                sights = (min(task.seen, key=lambda seen: seen[0].end)[0] for task in tasks[:2])
                self._found.append(Anomaly(Kind.DUPLICATE_CREATE, f"tasks {[task.id for task in tasks]}", (*sights,)))
        self._check_reuse()

    def _title_at_birth(self, task: TaskHistory) -> str | None:
        """The title that a task was created with, if anybody saw it."""
        for call, state in task.seen:
            if state.version == 1:
                return state.content.title
            if call.method == "CreateTask" and call.purpose != REUSED:
                return str(call.request.task.title)
        return None

    def _requested(self, task: TaskHistory) -> bool:
        title = self._title_at_birth(task)
        return any(call.request.request_id for call in self._creates.get(title or "", ()))

    def _check_reuse(self) -> None:
        """A request_id is refused with other content while its task exists, and only then."""
        for title, calls in self._creates.items():
            for call in calls:
                if call.purpose == REUSED and call.code == "OK" and call.response.title != title:
                    self._found.append(Anomaly(Kind.CONTENT_IGNORED, f"task {call.response.id}", (call,)))
                others = self._reused.get(call.request.request_id, ())
                if call.code == "ALREADY_EXISTS" and call.purpose != REUSED and not any(map(may_have_happened, others)):
                    self._found.append(Anomaly(Kind.WRONG_STATUS, "CreateTask", (call,)))


def _mismatch(call: Call) -> Kind | None:
    """The kind of anomaly if a response contradicts its own request."""
    state = state_of(call.response)
    if call.method == "CreateTask":
        asked = call.request.task
        is_other = state.version == 1 and state.content != Content(asked.title, asked.description, INCOMPLETE)
        return Kind.WRONG_RESPONSE if is_other and call.purpose != REUSED else None
    if call.response.id != call.task_id:
        return Kind.WRONG_RESPONSE
    if call.method in {"UpdateTask", "CompleteTask"} and changed(state.content, call) != state.content:
        return Kind.TOGGLED if call.method == "CompleteTask" else Kind.WRONG_RESPONSE
    return None


def anomalies_by_kind(found: list[Anomaly]) -> Iterator[tuple[Kind, list[Anomaly]]]:
    """The anomalies of each kind, in the order of the kinds."""
    for kind in Kind:
        if those := [anomaly for anomaly in found if anomaly.kind is kind]:
            yield kind, those
