"""How the databases run the statements: by an index, without sorting, however large the table."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from uuid import uuid4

import pytest
import pytest_asyncio

from service.db.compiled_statement import CompiledStatement, Parameters
from service.db.engine import Database, Rows, fetch
from service.db.schema import Schema
from service.db.store import SqlTaskStore
from service.db.url import DatabaseUrl, parse_database_url
from service.model import Position, TaskChange, TaskQuery, TaskRemoval, TaskStatus
from tests.db.making import later, new_task, one_page, requested
from tests.postgres import fresh_database

USER = "user-of-many"
OTHERS = 50
TASKS_EACH = 200


class Explained(Database):
    """A database that can be asked how it runs the statements of its store."""

    def __init__(self, url: DatabaseUrl) -> None:
        super().__init__(url)
        self.store = SqlTaskStore(self)
        self._seen: list[tuple[CompiledStatement, Parameters]] = []

    async def read(self, statement: CompiledStatement, parameters: Parameters) -> Rows:
        self._seen.append((statement, parameters))
        return await super().read(statement, parameters)

    async def write(self, *statements: CompiledStatement, parameters: Parameters, repeatable: bool) -> Rows:
        self._seen += [(statement, parameters) for statement in statements]
        return await super().write(*statements, parameters=parameters, repeatable=repeatable)

    async def plans_of(self, operation: Callable[[], Awaitable[object]]) -> list[str]:
        """The plans of the statements on tasks that an operation runs, each as one text."""
        self._seen.clear()
        await operation()
        seen = [(statement, parameters) for statement, parameters in self._seen if " tasks" in statement.text]
        assert seen
        prefix = "EXPLAIN QUERY PLAN " if self.dialect.name == "sqlite" else "EXPLAIN "
        async with self._connection() as connection:
            return [
                "\n".join(
                    str(row[-1])
                    for row in await fetch(connection, prefix + statement.text, statement.bound(parameters))
                )
                for statement, parameters in seen
            ]


async def fill(database_url: str) -> None:
    """Ten thousand tasks of one user and as many of fifty others, in a database that knows how many there are."""
    url = parse_database_url(database_url)
    Schema(url).up()
    database = Database(url)
    store = SqlTaskStore(database)
    users = [USER] * OTHERS + [f"user-{number}" for number in range(OTHERS)]
    for number, user in enumerate(users):
        tasks = [new_task(user, created_at=later(number + each)) for each in range(TASKS_EACH)]
        await store.create(tasks)
        await store.update(
            [TaskChange(*task.key, later(number), {"status": TaskStatus.COMPLETE}) for task in tasks[::3]]
        )
    async with database._connection() as connection:
        await fetch(connection, "ANALYZE")
    await database.close()


@pytest.fixture(scope="session")
def sqlite_full_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('full') / 'taskwell.db'}"
    asyncio.run(fill(url))
    return url


@pytest.fixture(scope="session")
def postgresql_full_url(postgres: str) -> Iterator[str]:
    with fresh_database(postgres) as url:
        asyncio.run(fill(url))
        yield url


@pytest.fixture
def full_url(request: pytest.FixtureRequest, database_kind: str) -> str:
    url: str = request.getfixturevalue(f"{database_kind}_full_url")
    return url


@pytest_asyncio.fixture
async def explained(full_url: str) -> AsyncIterator[Explained]:
    database = Explained(parse_database_url(full_url))
    yield database
    await database.close()


def test_the_plan_reader_would_notice() -> None:
    assert reads_whole_table("Seq Scan on tasks  (cost=0.00..1.00)")
    assert reads_whole_table("SCAN tasks")
    assert sorts("Sort  (cost=0.00..1.00)")
    assert sorts("USE TEMP B-TREE FOR ORDER BY")


def reads_whole_table(plan: str) -> bool:
    return "Seq Scan on tasks" in plan or "SCAN tasks" in plan


def sorts(plan: str) -> bool:
    return "Sort" in plan or "ORDER BY" in plan


@pytest.mark.parametrize("newest_first", [True, False])
async def test_every_page_is_a_range_of_one_index(explained: Explained, *, newest_first: bool) -> None:
    middle = Position(later(100), str(uuid4()))
    for status in (None, TaskStatus.INCOMPLETE, TaskStatus.COMPLETE):
        index = "tasks_newest_idx" if status is None else "tasks_status_newest_idx"
        for after in (None, middle):
            query = TaskQuery(USER, 51, status, newest_first, after)
            [plan] = await explained.plans_of(partial(explained.store.page, [query]))
            assert index in plan
            assert not reads_whole_table(plan)
            assert not sorts(plan)
            assert "OFFSET" not in plan


@pytest.mark.parametrize("size", [1, 64])
async def test_every_other_statement_finds_its_tasks_by_a_key(explained: Explained, size: int) -> None:
    store = explained.store
    mine = await one_page(store, TaskQuery(USER, size))
    keys = [task.key for task in mine]
    again = [requested(USER, str(uuid4())) for _ in range(size)]
    await store.create(again)
    for operation in (
        lambda: store.get(keys),
        lambda: store.update([TaskChange(*key, later(9999), {"title": "New"}) for key in keys]),
        lambda: store.update([TaskChange(*key, later(9999), {"title": "Newer"}, version=2) for key in keys]),
        lambda: store.create(again),
        lambda: store.delete([TaskRemoval(*key) for key in keys[::2]]),
        lambda: store.delete([TaskRemoval(*key, 1) for key in keys]),
    ):
        for plan in await explained.plans_of(operation):
            assert not reads_whole_table(plan), plan
