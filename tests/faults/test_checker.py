"""The checker on histories made by hand: what it accepts, and what it calls by which name."""

import itertools
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from taskwell.v1 import tasks_pb2

from tests.faults.anomalies import Kind
from tests.faults.checker import check
from tests.faults.history import CLIENT, Call, FaultRecord, History, Sample
from tests.faults.workload import FOREIGN, INVALID, OTHER_LIST, REUSED

USER, OTHER = "alice", "bob"
ID = "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234"
INCOMPLETE, COMPLETE = tasks_pb2.TASK_STATUS_INCOMPLETE, tasks_pb2.TASK_STATUS_COMPLETE


class Story:
    """Calls one after the other, a second each."""

    def __init__(self) -> None:
        self.history = History(0, users=(USER, OTHER), max_call_seconds=5)
        self._seconds = itertools.count(1)

    def call(self, method: str, request: Any, response: Any = None, **more: Any) -> Call:
        start = float(next(self._seconds))
        task_id = request.task.id if method == "UpdateTask" else getattr(request, "id", "")
        fields = {"code": "OK", "deadline": 10.0, "end": start + 0.5, **more}
        made = Call(len(self.history.calls), method, fields.pop("user", USER), task_id, request, start, **fields)
        made.response = response
        self.history.calls.append(made)
        return made

    def create(self, response: tasks_pb2.Task | None, title: str = "alice 1", **more: Any) -> Call:
        request = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title=title), request_id=more.pop("request_id", ""))
        return self.call("CreateTask", request, response, **more)

    def get(self, response: tasks_pb2.Task | None, **more: Any) -> Call:
        return self.call("GetTask", tasks_pb2.GetTaskRequest(id=ID), response, **more)

    def update(self, response: tasks_pb2.Task | None, *, etag: str = "", code: str = "OK", **values: Any) -> Call:
        task = tasks_pb2.Task(id=ID, etag=etag, **values)
        request = tasks_pb2.UpdateTaskRequest(task=task, update_mask=FieldMask(paths=[*values]))
        return self.call("UpdateTask", request, response, code=code, **_details(code))

    def delete(self, **more: Any) -> Call:
        return self.call("DeleteTask", tasks_pb2.DeleteTaskRequest(id=ID), **more)

    def walk(self, *pages: list[tasks_pb2.Task], **request: Any) -> None:
        for number, tasks in enumerate(pages, 1):
            token = "more" if number < len(pages) else ""
            page = tasks_pb2.ListTasksResponse(tasks=tasks, next_page_token=token)
            self.call("ListTasks", tasks_pb2.ListTasksRequest(**request), page, walk=1)

    def broken(self) -> None:
        """A fault that lasts for as long as the history."""
        self.history.faults.append(FaultRecord("fault", 0, 1000))

    def kinds(self) -> set[Kind]:
        return {anomaly.kind for anomaly in check(self.history)}


def _details(code: str) -> dict[str, Any]:
    known: dict[str, dict[str, Any]] = {
        "UNAVAILABLE": {"reason": "DATABASE_UNAVAILABLE", "retry_delay": 1.0},
        "NOT_FOUND": {"reason": "TASK_NOT_FOUND"},
        "ABORTED": {"reason": "ETAG_STALE"},
        "INVALID_ARGUMENT": {"reason": "INVALID_FIELD"},
        "INTERNAL": {"reason": "INTERNAL"},
    }
    return known.get(code, {})


def task(version: int = 1, title: str = "alice 1", **more: Any) -> tasks_pb2.Task:
    """A task as a response has it, which changed a second after each version."""
    fields = {"id": ID, "status": INCOMPLETE, "description": "", **more}
    made = tasks_pb2.Task(title=title, etag=f"{version:x}", **fields)
    made.create_time.seconds = 1000
    made.update_time.seconds = 1000 + version
    if made.status == COMPLETE:
        made.complete_time.seconds = 1000 + version
    return made


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_history_without_anomalies_has_none(story: Story) -> None:
    story.create(task())
    story.update(task(2, "alice 2"), title="alice 2")
    story.update(None, title="alice 3", etag="1", code="ABORTED")
    story.walk([task(2, "alice 2")])
    story.delete()
    story.get(None, code="NOT_FOUND", **_details("NOT_FOUND"))
    assert story.kinds() == set()


@pytest.mark.parametrize("happened", [True, False])
def test_an_unknown_outcome_may_or_may_not_have_happened(story: Story, happened: bool) -> None:
    story.broken()
    story.create(task())
    story.update(None, title="alice 2", code="UNAVAILABLE")
    story.get(task(2, "alice 2") if happened else task())
    assert story.kinds() == set()


def test_unknown_outcomes_that_were_overwritten_explain_a_gap(story: Story) -> None:
    story.broken()
    story.create(task())
    story.update(None, title="alice 2", code="UNAVAILABLE")
    story.update(None, description="alice 3", code="UNAVAILABLE")
    story.update(task(4, "alice 4", description="alice 3"), title="alice 4")
    assert story.kinds() == set()
    story.update(task(6, "alice 5", description="alice 3"), title="alice 5")
    assert story.kinds() == {Kind.LOST_UPDATE}


def test_a_gap_is_explained_by_unknown_outcomes_before_acknowledged_writes(story: Story) -> None:
    story.broken()
    story.create(task())
    story.update(None, title="alice 2", code="UNAVAILABLE")
    story.update(None, description="alice 3", etag="1", code="UNAVAILABLE")
    story.update(None, description="alice 4", code="UNAVAILABLE")
    acknowledged = story.update(task(5, "alice 2", description="alice 5"), description="alice 5")
    seen = story.get(task(4, "alice 2", description="alice 4"))
    # Both were in flight at the same time, so the write could have been done before the gap was seen.
    acknowledged.end, seen.start, seen.end = 8.0, acknowledged.start, 7.5
    assert story.kinds() == set()


def test_lost_write(story: Story) -> None:
    story.create(task())
    story.update(task(2, "alice 2"), title="alice 2")
    story.get(task())
    assert story.kinds() == {Kind.LOST_WRITE}


def test_lost_create(story: Story) -> None:
    story.create(task())
    story.get(None, code="NOT_FOUND", **_details("NOT_FOUND"))
    assert story.kinds() == {Kind.LOST_WRITE}


def test_stale_read(story: Story) -> None:
    story.create(task())
    story.update(task(2, "alice 2"), title="alice 2")
    story.get(task())
    story.get(task(2, "alice 2"))
    assert story.kinds() == {Kind.STALE_READ}


def test_lost_update(story: Story) -> None:
    story.create(task())
    story.update(task(2, "alice 2"), title="alice 2")
    story.update(task(3, "alice 1", description="alice 3"), description="alice 3")
    assert Kind.LOST_UPDATE in story.kinds()


def test_refused_but_done(story: Story) -> None:
    story.create(task())
    story.update(task(2, "alice 2"), title="alice 2")
    story.update(None, title="alice 3", etag="1", code="ABORTED")
    story.get(task(3, "alice 3"))
    assert Kind.REFUSED_BUT_DONE in story.kinds()


@pytest.mark.parametrize(("client", "kinds"), [("raw", {Kind.DONE_TWICE}), (CLIENT, set())])
def test_done_twice_is_for_a_client_that_retries(story: Story, client: str, kinds: set[Kind]) -> None:
    story.broken()
    story.create(task())
    story.update(None, title="alice 2", code="UNAVAILABLE").client = client
    story.get(task(2, "alice 2"))
    story.update(task(3, "alice 3"), title="alice 3")
    story.get(task(4, "alice 2"))
    assert story.kinds() == kinds


def test_undeleted(story: Story) -> None:
    story.create(task())
    story.delete()
    story.get(task())
    assert story.kinds() == {Kind.UNDELETED}


def test_deleted_twice(story: Story) -> None:
    story.create(task())
    story.delete()
    story.delete()
    assert story.kinds() == {Kind.DELETED_TWICE}


@pytest.mark.parametrize("request_id", ["", "1d0f9f0e-6d0f-4b6f-9c6e-0a8f6c1e7b11"])
def test_duplicate_create(story: Story, request_id: str) -> None:
    story.create(task(), request_id=request_id)
    story.walk([task(), task(id=ID.replace("0192", "0191"))])
    assert story.kinds() == {Kind.DUPLICATE_CREATE}


def test_content_ignored(story: Story) -> None:
    story.create(task(), request_id="1")
    story.create(task(), "alice 2", request_id="1", purpose=REUSED)
    assert story.kinds() == {Kind.CONTENT_IGNORED}


def test_isolation(story: Story) -> None:
    story.create(task())
    story.get(task(), user=OTHER, purpose=FOREIGN)
    assert story.kinds() == {Kind.ISOLATION}


def test_etag_ignored_and_false_abort(story: Story) -> None:
    story.create(task())
    story.update(task(2, "alice 2"), title="alice 2")
    story.update(task(3, "alice 3"), title="alice 3", etag="1")
    assert Kind.ETAG_IGNORED in story.kinds()
    story.update(None, title="alice 4", etag="3", code="ABORTED")
    assert Kind.FALSE_ABORT in story.kinds()


def test_times(story: Story) -> None:
    story.create(task())
    later = task(2, "alice 2")
    later.update_time.seconds = 1000
    story.update(later, title="alice 2")
    assert story.kinds() == {Kind.TIME_WENT_BACK}


def test_pages(story: Story) -> None:
    others = [task(id=ID.replace("0192", f"019{digit}")) for digit in (3, 4)]
    for number, each in enumerate((task(), *others), 1):
        each.title = f"alice {number}"
        story.create(each, each.title)
    first, second, third = others[1], others[0], task()
    story.walk([first], [second], [third], page_size=1)
    assert story.kinds() == set()
    walks = {
        Kind.PAGE_GAP: ([first], [third]),
        Kind.PAGE_REPEATS: ([first], [first], [second], [third]),
        Kind.PAGE_ORDER: ([second], [first], [third]),
    }
    for kind, pages in walks.items():
        del story.history.calls[3:]
        story.walk(*pages)
        assert kind in story.kinds()
    del story.history.calls[3:]
    story.walk([], status=INCOMPLETE)
    assert story.kinds() == {Kind.PAGE_GAP}


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ({"code": "INTERNAL", "reason": "INTERNAL"}, Kind.INTERNAL),
        ({"code": "CANCELLED"}, Kind.CANCELLED),
        ({"code": "PERMISSION_DENIED", "reason": "METHOD_NOT_ALLOWED"}, Kind.WRONG_STATUS),
        ({"code": "UNAVAILABLE"}, Kind.UNDOCUMENTED),
        ({"code": "NOT_FOUND", "reason": "NO_SUCH_REASON"}, Kind.UNDOCUMENTED),
        ({"code": "UNAVAILABLE", "reason": "DATABASE_UNAVAILABLE"}, Kind.RETRY_INFO),
        ({"code": "UNAVAILABLE", "reason": "DATABASE_UNAVAILABLE", "retry_delay": 1.0}, Kind.FAILED_WITHOUT_FAULT),
        ({"code": "OK", "purpose": INVALID}, Kind.WRONG_STATUS),
        ({"code": "OK", "purpose": OTHER_LIST}, Kind.TOKEN_UNBOUND),
    ],
)
def test_statuses(story: Story, outcome: dict[str, Any], kind: Kind) -> None:
    story.call("ListTasks", tasks_pb2.ListTasksRequest(), None, **outcome)
    assert kind in story.kinds()


def test_lateness_recovery_memory_and_stalls(story: Story) -> None:
    story.create(task(), end=100.0)
    story.history.faults.append(FaultRecord("fault", 0, 0, recovers_within=5))
    story.history.samples += [Sample(50, 100 << 20, 0.1), Sample(60, 300 << 20, 9.0)]
    assert story.kinds() == {Kind.LATE, Kind.SLOW_RECOVERY, Kind.MEMORY, Kind.STALL}
