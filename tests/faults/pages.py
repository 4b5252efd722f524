"""Checks of walks over pages: every task that was there throughout is seen, once, in order."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from taskwell.v1 import tasks_pb2

from tests.faults.anomalies import Anomaly, Kind
from tests.faults.history import Call
from tests.faults.outcomes import State, changes_status, may_have_happened, state_of
from tests.faults.task_history import TaskHistory

_PAGE_SIZE = 50
"""The page size of a request that gives none."""

Position = tuple[int, str]


def check_walk(pages: Sequence[Call], theirs: Sequence[TaskHistory]) -> Iterator[Anomaly]:
    """Contradictions in the successful pages of one walk. `theirs` are all tasks of the user."""
    subject = f"walk {pages[0].walk} of {pages[0].user}"
    order, status = pages[0].request.order_by, pages[0].request.status
    found = [task for page in pages for task in page.response.tasks]
    positions = [_position(task) for task in found]
    falls = order != "create_time"
    for page in pages:
        if len(page.response.tasks) > (page.request.page_size or _PAGE_SIZE):
            yield Anomaly(Kind.PAGE_ORDER, subject, (page,))
        if status and any(task.status != status for task in page.response.tasks):
            yield Anomaly(Kind.PAGE_FILTER, subject, (page,))
    if len({task.id for task in found}) < len(found):
        yield Anomaly(Kind.PAGE_REPEATS, subject, tuple(pages))
    elif any((before < after) == falls for before, after in pairwise(positions)):
        yield Anomaly(Kind.PAGE_ORDER, subject, tuple(pages))
    is_whole = not pages[-1].response.next_page_token
    reached = None if is_whole else positions[-1] if positions else (0, "")
    seen = {task.id for task in found}
    for task in theirs:
        if task.id not in seen and (sight := _was_there(task, pages[0].start, pages[-1].end, status)):
            position = (sight[1].created, task.id)
            if reached is None or (position > reached if falls else position < reached):
                yield Anomaly(Kind.PAGE_GAP, f"{subject}, task {task.id}", (sight[0], *pages))


def _position(task: tasks_pb2.Task) -> Position:
    return state_of(task).created, task.id


def _was_there(task: TaskHistory, start: float, end: float, status: int) -> tuple[Call, State] | None:
    """A sight of the task before the walk, if it surely was in the list throughout the walk; else None."""
    if any(call.start < end and may_have_happened(call) for call in task.deletes):
        return None
    if any(call.end < start for call in task.missing):
        return None
    before = [seen for seen in task.seen if seen[0].end < start]
    if not before:
        return None
    newest = max(before, key=lambda seen: seen[1].version)
    if status:
        for call in task.writes:
            settled = call.code == "OK" and call.end < start
            if call.start < end and not settled and changes_status(call) and may_have_happened(call):
                return None
        if newest[1].content.status != status:
            return None
    return newest
