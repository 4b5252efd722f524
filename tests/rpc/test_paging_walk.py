"""A walk over all pages, whatever is written meanwhile: a state machine whose steps are pages and writes."""

from datetime import UTC
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import SearchStrategy
from taskwell.v1 import tasks_pb2

from tests.rpc.given import Rows
from tests.running import COMPLETE, INCOMPLETE, Api

WALKS = settings().max_examples // 5
"""From `make soak-requests` ten times as many."""
ORDERS = st.sampled_from(["", "create_time"])
STATUSES: SearchStrategy[int] = st.sampled_from([0, INCOMPLETE, COMPLETE])
UUIDS = st.uuids()


def test_a_walk_meets_every_task_that_existed_throughout_exactly_once(api: Api, rows: Rows) -> None:
    class WalkHere(Walk):
        def __init__(self) -> None:
            super().__init__(api.as_user(), rows)

    run_state_machine_as_test(WalkHere, settings=settings(max_examples=WALKS, stateful_step_count=25))


class Walk(RuleBasedStateMachine):
    """The tasks of one user, and a walk over them."""

    ids = Bundle[str]("ids")

    def __init__(self, api: Api, rows: Rows) -> None:
        super().__init__()
        self.api = api
        self.rows = rows
        rows.insert_user(api.user)
        self.tasks: dict[str, tasks_pb2.Task] = {}
        """All tasks that there are, as the last write answered them."""
        self.inserted: set[UUID] = set()
        """The ids that we gave; none is given twice, as the server gives none twice."""
        self.is_walking = False

    # The walk. When it has ended, turning the page begins the next one: were that another step, which steps there are
    # would depend on what the service answers, and hypothesis could not run the same steps again.

    @initialize(target=ids, ties=st.lists(st.lists(UUIDS, max_size=3), max_size=4), order_by=ORDERS, status=STATUSES)
    def begin_among(self, ties: list[list[UUID]], order_by: str, status: int) -> MultipleResults[str]:
        ids: list[str] = []
        for tie in ties:
            ids.append(self.wrote(self.api.create()))
            ids += self.insert_beside(ids[-1], tie)
        for task_id in ids[::2]:
            self.wrote(self.api.complete(task_id))
        self.begin(order_by, status)
        return multiple(*ids)

    @rule(page_size=st.integers(1, 4), next_order_by=ORDERS, next_status=STATUSES)
    def turn_the_page(self, page_size: int, next_order_by: str, next_status: int) -> None:
        if not self.is_walking:
            self.begin(next_order_by, next_status)
        self.read(page_size)

    def teardown(self) -> None:
        while self.is_walking:
            self.read(2)

    def begin(self, order_by: str, status: int) -> None:
        self.order_by, self.status = order_by, status
        self.throughout = {task.id for task in self.tasks.values() if self.is_asked_for(task)}
        """The tasks that the walk must meet."""
        self.met: list[tuple[int, str]] = []
        """The create times and ids that the walk met."""
        self.token = ""
        self.is_walking = True

    def read(self, page_size: int) -> None:
        page = self.api.list(page_size=page_size, page_token=self.token, order_by=self.order_by, status=self.status)
        assert len(page.tasks) <= page_size
        for task in page.tasks:
            assert self.tasks.get(task.id) == task
            assert self.is_asked_for(task)
            self.met.append((task.create_time.ToNanoseconds(), task.id))
        assert sorted(set(self.met), reverse=not self.order_by) == self.met
        self.token = page.next_page_token
        if not self.token:
            assert set() == self.throughout - {task_id for _, task_id in self.met}
            self.is_walking = False

    # The writers

    @rule(target=ids)
    def create(self) -> str:
        return self.wrote(self.api.create())

    @rule(target=ids, beside=ids, tie=st.lists(UUIDS, min_size=1, max_size=3))
    def create_at_the_same_moment(self, beside: str, tie: list[UUID]) -> MultipleResults[str]:
        return multiple(*self.insert_beside(beside, tie))

    @rule(task_id=ids)
    def update(self, task_id: str) -> None:
        self.wrote(self.api.update(task_id, title=f"{self.tasks[task_id].title[:200]}!"))

    @rule(task_id=ids)
    def complete(self, task_id: str) -> None:
        self.wrote(self.api.complete(task_id))

    @rule(task_id=ids)
    def reopen(self, task_id: str) -> None:
        self.wrote(self.api.update(task_id, status=INCOMPLETE))

    @rule(task_id=consumes(ids))
    def delete(self, task_id: str) -> None:
        self.api.delete(task_id)
        del self.tasks[task_id]
        if self.is_walking:
            self.throughout.discard(task_id)

    def insert_beside(self, task_id: str, tie: list[UUID]) -> list[str]:
        """Make tasks with the create time of another, which the server's clock does not do on demand."""
        moment = self.tasks[task_id].create_time.ToDatetime(tzinfo=UTC)
        new = [each for each in dict.fromkeys(tie) if each not in self.inserted]
        self.inserted.update(new)
        if new:
            self.rows.insert_tasks(self.api.user, [moment] * len(new), ids=new)
        return [self.wrote(self.api.get(str(each))) for each in new]

    def wrote(self, task: tasks_pb2.Task) -> str:
        self.tasks[task.id] = task
        if self.is_walking and not self.is_asked_for(task):
            self.throughout.discard(task.id)
        return task.id

    def is_asked_for(self, task: tasks_pb2.Task) -> bool:
        return self.status in (0, task.status)
