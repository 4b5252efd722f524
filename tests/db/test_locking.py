"""Row locks on PostgreSQL: batches lock their rows in the order of the keys, so that they never deadlock."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from service.db.engine import Database
from service.db.store import SqlTaskStore
from service.db.url import parse_database_url
from service.model import NewTask, Task, TaskChange, TaskRemoval
from tests.db.making import later, new_task
from tests.distribution import IS_CLUSTER, IS_DISTRIBUTED, migrate, store_of
from tests.postgres import fresh_database
from tests.running import new_user
from tests.waiting import until

pytestmark = pytest.mark.skipif(IS_CLUSTER, reason="looks into one server")

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    """A database for this test alone, whose statistics count nothing else."""
    with fresh_database(postgres) as url:
        migrate(parse_database_url(url))
        with psycopg.connect(url) as admin:
            # As in a large table, where each row of a batch is looked up by index, in the order of the batch.
            for method in ("hashjoin", "mergejoin", "seqscan"):
                admin.execute(f"ALTER DATABASE {admin.info.dbname} SET enable_{method} = off")
        yield url


@pytest.fixture
def admin(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as admin:
        yield admin


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[SqlTaskStore]:
    database = Database(parse_database_url(url))
    yield store_of(database)
    await database.close()


def change_of(task: NewTask, title: str = "New") -> TaskChange:
    return TaskChange(task.user_id, task.id, later(1), {"title": title})


def removal_of(task: NewTask) -> TaskRemoval:
    return TaskRemoval(task.user_id, task.id)


async def until_true(admin: psycopg.Connection[Any], query: str) -> None:
    """Return as soon as the query answers true."""
    await asyncio.to_thread(until, lambda: admin.execute(query).fetchone() == (True,))


async def test_concurrent_batches_of_the_same_tasks_in_other_orders_do_not_deadlock(
    url: str, admin: psycopg.Connection[Any]
) -> None:
    database = Database(parse_database_url(url))
    store = store_of(database)
    tasks = [new_task() for _ in range(10)]
    await store.create(tasks)

    def shuffled(number: int) -> list[TaskChange]:
        return [change_of(task, f"Title {number}") for task in random.sample(tasks, 10)]

    outcomes = await asyncio.gather(*(store.update(shuffled(number)) for number in range(30)))
    assert all(isinstance(outcome, Task) for answered in outcomes for outcome in answered)
    # A deadlock costs its victim a second and is hidden by the retry. Sessions publish their counts when they end.
    await database.close()
    await until_true(admin, f"SELECT count(*) = 0 {OTHERS}")
    assert admin.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone() == (0,)


@pytest.mark.parametrize("operation", ["update", "delete"])
async def test_a_batch_locks_its_rows_in_the_order_of_their_keys(
    store: SqlTaskStore, admin: psycopg.Connection[Any], operation: str
) -> None:
    owner = new_user() if IS_DISTRIBUTED else None
    # Not in the order of the keys.
    tasks = sorted((new_task(owner) for _ in range(10)), key=lambda task: task.key, reverse=True)
    await store.create(tasks)
    with admin.transaction():
        admin.execute("SELECT 1 FROM tasks WHERE id = %s FOR UPDATE", [tasks[-1].id])
        batch: asyncio.Future[list[Any]] = asyncio.ensure_future(
            store.update([change_of(task) for task in tasks])
            if operation == "update"
            else store.delete([removal_of(task) for task in tasks])
        )
        await until_true(admin, f"SELECT count(*) = 1 {OTHERS} AND wait_event_type = 'Lock'")
        # The batch waits for its first row and holds no other.
        free = admin.execute("SELECT id FROM tasks ORDER BY user_id, id FOR UPDATE SKIP LOCKED").fetchall()
    assert [task.id for task in tasks[::-1]] == [str(id_) for (id_,) in free]
    assert len(await batch) == len(tasks)
