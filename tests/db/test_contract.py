"""The promises of service.tasks.store.TaskStore, on every database."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import uuid4

import pytest

from service.db.engine import Database
from service.db.store import SqlTaskStore
from service.db.url import parse_database_url
from service.errors import CallerUnknown, EtagStale, RequestIdReused, TaskNotFound
from service.model import Position, Task, TaskChange, TaskKey, TaskQuery, TaskRemoval, TaskStatus
from tests.db.making import START, is_task, later, new_task, one_page, requested
from tests.db.recording import recorded_texts
from tests.distribution import IS_DISTRIBUTED, store_of
from tests.running import new_user


def kinds(outcomes: list[object]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


async def test_create_answers_each_task_in_order_and_get_finds_it_so(store: SqlTaskStore) -> None:
    tasks = [new_task(title=f"Task {number}", description="x" * number) for number in range(20)]
    made = await store.create(tasks)
    assert [(task.key, task.draft.title, task.draft.description, START, START, 1) for task in tasks] == [
        (task.key, task.title, task.description, task.created_at, task.updated_at, task.version)
        for task in map(is_task, made)
    ]
    assert made == await store.get([task.key for task in tasks])
    assert made[::-1] == await store.get([task.key for task in tasks[::-1]])


async def test_get_must_not_find_a_task_of_another_user(store: SqlTaskStore) -> None:
    mine, theirs = new_task(), new_task()
    await store.create([mine, theirs])
    crossed = [
        TaskKey(mine.user_id, theirs.id),
        mine.key,
        TaskKey(theirs.user_id, mine.id),
        TaskKey(new_user(), mine.id),
    ]
    assert [TaskNotFound, Task, TaskNotFound, TaskNotFound] == kinds([*await store.get(crossed)])


async def test_users_compare_byte_by_byte(store: SqlTaskStore) -> None:
    task = new_task("Alice-" + new_user())
    await store.create([task])
    assert [TaskNotFound] == kinds([*await store.get([TaskKey(task.user_id.lower(), task.id)])])
    assert await one_page(store, TaskQuery(task.user_id.lower(), 10)) == []


async def test_moments_keep_their_microseconds(store: SqlTaskStore) -> None:
    tasks = [new_task(created_at=START.replace(microsecond=micros)) for micros in (0, 1, 100_000, 999_999)]
    await store.create(tasks)
    found = [is_task(task) for task in await store.get([task.key for task in tasks])]
    assert [task.created_at for task in tasks] == [task.created_at for task in found]
    assert all(str(task.created_at.tzinfo) == "UTC" for task in found)


async def test_an_equal_request_answers_the_earlier_task_as_it_is_now(store: SqlTaskStore) -> None:
    first = requested(new_user(), str(uuid4()))
    await store.create([first])
    changed = await store.update([TaskChange(first.user_id, first.id, later(1), {"title": "Changed"})])
    assert changed == await store.create([replace(first, id=str(uuid4()))])


async def test_a_request_id_with_another_digest_is_refused(store: SqlTaskStore) -> None:
    first = requested(new_user(), str(uuid4()))
    await store.create([first])
    again = replace(first, id=str(uuid4()), request_digest="b" * 64)
    assert [RequestIdReused] == kinds([*await store.create([again])])


async def test_one_batch_may_hold_equal_requests_reused_ones_and_others(store: SqlTaskStore) -> None:
    user, request_id = new_user(), str(uuid4())
    first = requested(user, request_id)
    equal, reused, plain = requested(user, request_id), requested(user, request_id, "b" * 64), new_task(user)
    elsewhere = requested(new_user(), request_id, "b" * 64)
    outcomes = await store.create([first, equal, reused, plain, elsewhere])
    assert [Task, Task, RequestIdReused, Task, Task] == kinds([*outcomes])
    assert outcomes[0] == outcomes[1]
    assert len(await one_page(store, TaskQuery(user, 10))) == 2


async def test_a_create_run_again_after_its_answer_was_lost_makes_no_second_task(store: SqlTaskStore) -> None:
    task = new_task()
    assert await store.create([task]) == await store.create([task])
    assert len(await one_page(store, TaskQuery(task.user_id, 10))) == 1


async def test_fifty_batches_of_the_same_requests_at_once_make_each_task_once(store: SqlTaskStore) -> None:
    user = new_user()
    request_ids = [str(uuid4()) for _ in range(5)]
    batches = [[requested(user, each) for each in random.sample(request_ids, 5)] for _ in range(50)]
    outcomes = await asyncio.gather(*(store.create(each) for each in batches))
    assert len({is_task(task).id for answered in outcomes for task in answered}) == 5
    assert len(await one_page(store, TaskQuery(user, 100))) == 5


async def test_an_update_answers_the_task_after_it(store: SqlTaskStore) -> None:
    task = new_task()
    await store.create([task])
    change = TaskChange(
        task.user_id, task.id, later(1), {"title": "New", "description": "Words", "status": TaskStatus.COMPLETE}
    )
    [after] = await store.update([change])
    expected = Task(task.user_id, task.id, "New", "Words", TaskStatus.COMPLETE, 2, START, later(1), later(1))
    assert expected == after
    assert [expected] == await store.get([task.key])


async def test_every_change_of_a_batch_meets_its_own_task(store: SqlTaskStore) -> None:
    tasks = [new_task() for _ in range(50)]
    await store.create(tasks)
    changes = [TaskChange(task.user_id, task.id, later(n), {"title": f"Title {n}"}) for n, task in enumerate(tasks)]
    random.shuffle(changes)
    after = [is_task(task) for task in await store.update(changes)]
    assert [(change.key, change.values["title"], change.changed_at) for change in changes] == [
        (task.key, task.title, task.updated_at) for task in after
    ]


async def test_one_batch_may_hold_changes_that_succeed_and_others_that_do_not(store: SqlTaskStore) -> None:
    user = new_user()
    fresh, stale, same = new_task(user), new_task(user), new_task(user)
    await store.create([fresh, stale, same])
    outcomes = await store.update(
        [
            TaskChange(user, stale.id, later(1), {"title": "New"}, version=7),
            TaskChange(user, fresh.id, later(1), {"title": "New"}, version=1),
            TaskChange(user, same.id, later(1), {"title": same.draft.title}, version=1),
            TaskChange(user, str(uuid4()), later(1), {"title": "New"}),
            TaskChange(new_user(), fresh.id, later(1), {"title": "New"}),
        ]
    )
    assert [EtagStale, Task, Task, TaskNotFound, TaskNotFound] == kinds([*outcomes])
    assert [is_task(task).version for task in await store.get([stale.key, fresh.key, same.key])] == [1, 2, 1]


@pytest.mark.parametrize("change", [{}, {"title": "Buy milk"}, {"description": "", "status": TaskStatus.INCOMPLETE}])
async def test_a_change_to_what_a_task_is_already_leaves_it_untouched(
    store: SqlTaskStore, change: dict[str, object]
) -> None:
    task = new_task()
    made = await store.create([task])
    assert made == await store.update([TaskChange(task.user_id, task.id, later(1), change)])
    assert made == await store.get([task.key])


async def test_completing_twice_keeps_the_first_time_and_reopening_forgets_it(store: SqlTaskStore) -> None:
    task = new_task()
    await store.create([task])
    complete = TaskChange(task.user_id, task.id, later(1), {"status": TaskStatus.COMPLETE})
    [first] = await store.update([complete])
    assert [first] == await store.update([replace(complete, changed_at=later(2))])
    [renamed] = await store.update([TaskChange(task.user_id, task.id, later(3), {"title": "New"})])
    assert later(1) == is_task(renamed).completed_at
    [reopened] = await store.update([replace(complete, values={"status": TaskStatus.INCOMPLETE}, changed_at=later(4))])
    assert is_task(reopened).completed_at is None


async def test_a_clock_that_is_behind_does_not_turn_updated_at_back(store: SqlTaskStore) -> None:
    task = new_task()
    await store.create([task])
    [after] = await store.update([TaskChange(task.user_id, task.id, later(-60), {"status": TaskStatus.COMPLETE})])
    assert (is_task(after).updated_at, is_task(after).completed_at, is_task(after).version) == (START, START, 2)


async def test_of_fifty_changes_to_one_version_at_once_one_succeeds(store: SqlTaskStore) -> None:
    task = new_task()
    await store.create([task])
    changes = [TaskChange(task.user_id, task.id, later(1), {"title": f"Title {n}"}, version=1) for n in range(50)]
    outcomes = [outcome for [outcome] in await asyncio.gather(*(store.update([change]) for change in changes))]
    assert {Task: 1, EtagStale: 49} == {kind: kinds([*outcomes]).count(kind) for kind in (Task, EtagStale)}


async def test_batches_that_change_the_same_tasks_in_other_orders_all_succeed(store: SqlTaskStore) -> None:
    tasks = [new_task() for _ in range(10)]
    await store.create(tasks)

    def shuffled(number: int) -> list[TaskChange]:
        return [
            TaskChange(task.user_id, task.id, later(1), {"title": f"T {number}"}) for task in random.sample(tasks, 10)
        ]

    outcomes = await asyncio.gather(*(store.update(shuffled(number)) for number in range(30)))
    assert all(isinstance(outcome, Task) for answered in outcomes for outcome in answered)


async def test_delete_answers_for_each_what_became_of_it(store: SqlTaskStore) -> None:
    user = new_user()
    plain, versioned, stale = new_task(user), new_task(user), new_task(user)
    await store.create([plain, versioned, stale])
    removals = [
        TaskRemoval(user, stale.id, 2),
        TaskRemoval(user, plain.id),
        TaskRemoval(user, str(uuid4()), 1),
        TaskRemoval(user, versioned.id, 1),
        TaskRemoval(new_user(), stale.id),
    ]
    assert [EtagStale, type(None), TaskNotFound, type(None), TaskNotFound] == kinds([*await store.delete(removals)])
    assert [stale.id] == [task.id for task in await one_page(store, TaskQuery(user, 10))]
    assert [TaskNotFound] == kinds([*await store.delete([TaskRemoval(user, plain.id)])])


async def test_of_fifty_deletes_at_once_one_succeeds(store: SqlTaskStore) -> None:
    task = new_task()
    await store.create([task])
    outcomes = await asyncio.gather(*(store.delete([TaskRemoval(task.user_id, task.id)]) for _ in range(50)))
    assert [outcome for [outcome] in outcomes].count(None) == 1


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("status", [None, TaskStatus.INCOMPLETE])
async def test_pages_follow_each_other_through_ties(
    store: SqlTaskStore, *, newest_first: bool, status: TaskStatus | None
) -> None:
    user = new_user()
    tasks = [new_task(user, created_at=later(number // 3)) for number in range(10)]
    await store.create(tasks)
    await store.create([new_task()])
    expected = sorted(((task.created_at, task.id) for task in tasks), reverse=newest_first)
    walked: list[tuple[object, str]] = []
    after = None
    while page := await one_page(store, TaskQuery(user, 2, status, newest_first, after)):
        assert len(page) <= 2
        walked += [(task.created_at, task.id) for task in page]
        after = Position(page[-1].created_at, page[-1].id)
    assert expected == walked


async def test_a_page_holds_only_the_status_asked_for(store: SqlTaskStore) -> None:
    user = new_user()
    done, open_ = new_task(user), new_task(user)
    await store.create([done, open_])
    await store.update([TaskChange(user, done.id, later(1), {"status": TaskStatus.COMPLETE})])
    for status, task in ((TaskStatus.COMPLETE, done), (TaskStatus.INCOMPLETE, open_)):
        assert [task.id] == [found.id for found in await one_page(store, TaskQuery(user, 10, status))]


async def test_what_was_answered_is_there_for_others_at_once(store: SqlTaskStore, database_url: str) -> None:
    task = new_task()
    made = await store.create([task])
    other = Database(parse_database_url(database_url))
    assert made == await store_of(other).get([task.key])
    await other.close()


async def test_where_users_must_be_known_tasks_are_made_for_those_alone(
    store: SqlTaskStore, database: Database
) -> None:
    strict = store_of(database, known_users_only=True)
    known, unknown = new_task(), new_task()
    await store.create([known])
    assert [Task, CallerUnknown, Task] == kinds(
        [*await strict.create([new_task(known.user_id), unknown, new_task(known.user_id)])]
    )
    assert await strict.knows([known.user_id, unknown.user_id]) == [True, False]


async def test_a_batch_of_pages_answers_each_query_as_it_would_alone(store: SqlTaskStore) -> None:
    users = [new_user() for _ in range(3)]
    tasks = [new_task(user, created_at=later(number // 2)) for number in range(12) for user in users]
    await store.create(tasks)
    await store.update([TaskChange(*task.key, later(99), {"status": TaskStatus.COMPLETE}) for task in tasks[::4]])
    places = (None, Position(later(3), tasks[0].id))
    queries = [
        TaskQuery(user, limit, status, newest_first, after)
        for user in (*users, "nobody")
        for limit, status in ((1, None), (5, TaskStatus.COMPLETE), (100, TaskStatus.INCOMPLETE), (100, None))
        for newest_first in (True, False)
        for after in places
    ]
    alone = [await one_page(store, query) for query in queries]
    assert alone == await store.page(queries)
    assert [task.key for task in alone[12]] != [task.key for task in alone[14]]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_every_operation_takes_one_statement_with_one_text_for_every_size_of_the_batch_above_one(
    store: SqlTaskStore, database: Database, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = recorded_texts(monkeypatch)

    async def texts_of(operation: Callable[[], Awaitable[object]]) -> list[str]:
        texts.clear()
        await operation()
        return [text for text in texts if not text.startswith(("BEGIN", "COMMIT", "PRAGMA"))]

    owner = new_user() if IS_DISTRIBUTED else None
    tasks = [new_task(owner) for _ in range(size)]
    others = [new_task(owner) for _ in range(min(size, 3))]
    if IS_DISTRIBUTED:
        await store.create([new_task(owner)])  # the first task of a user takes further statements
    # Where a statement cannot write to two tables, the users take one of their own, in the same transaction.
    statements = 2 if database.dialect.name == "sqlite" else 1
    creates = await texts_of(lambda: store.create(tasks))
    assert statements == len(creates)
    assert creates == await texts_of(lambda: store.create(others))

    def removal_of(key: TaskKey) -> TaskRemoval:
        return TaskRemoval(key.user_id, key.id)

    def change_of(key: TaskKey) -> TaskChange:
        return TaskChange(key.user_id, key.id, later(1), {"title": "New"})

    def operations(keys: list[TaskKey]) -> list[Callable[[], Awaitable[object]]]:
        return [
            lambda: store.get(keys),
            lambda: store.update([change_of(key) for key in keys]),
            lambda: store.delete([removal_of(key) for key in keys]),
        ]

    pairs = zip(*(operations([task.key for task in batch]) for batch in (tasks, others)), strict=True)
    for operation, other in pairs:
        [text] = await texts_of(operation)
        assert [text] == await texts_of(other)
