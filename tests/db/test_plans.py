"""Plans of the serving statements: by index and without sorting, whatever the size of the table and of a user.

On PostgreSQL a prepared statement has a custom plan for its first executions and then, for most of ours, a generic one:
both are tested.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg.sql import Literal

from service.db.compiled_statement import CompiledStatement, Parameters, Row
from service.db.engine import Database, Rows
from service.db.schema import Schema
from service.db.store import SqlTaskStore
from service.db.url import DatabaseUrl, parse_database_url
from service.model import Position, TaskChange, TaskQuery, TaskRemoval, TaskStatus
from tests.db.making import START, later, new_task, one_page, requested
from tests.distribution import IS_CLUSTER, IS_DISTRIBUTED, partition
from tests.postgres import fresh_database

pytestmark = pytest.mark.skipif(IS_CLUSTER, reason="looks into one server")

USER = "user-of-many"
_PARAMETER = re.compile(r"%\((\w+)\)s")


class Explained(Database):
    """A database that can be asked how it runs the statements of its store."""

    def __init__(self, url: DatabaseUrl, *, by_owner: bool = IS_DISTRIBUTED) -> None:
        super().__init__(url)
        self.store = SqlTaskStore(self, by_owner=by_owner)
        self._seen: list[tuple[CompiledStatement, Parameters]] = []

    async def read(self, statement: CompiledStatement, parameters: Parameters) -> Rows:
        self._seen.append((statement, parameters))
        return await super().read(statement, parameters)

    async def write(
        self, *statements: CompiledStatement, parameters: Parameters, repeatable: bool, waits: bool = True
    ) -> Rows:
        self._seen += [(statement, parameters) for statement in statements]
        return await super().write(*statements, parameters=parameters, repeatable=repeatable, waits=waits)

    async def plans_of(self, operation: Callable[[], Awaitable[object]]) -> list[str]:
        """The plans of the statements on tasks that an operation runs, each as one text; two each on PostgreSQL."""
        self._seen.clear()
        await operation()
        seen = [(each, each.bound(parameters)) for each, parameters in self._seen if " tasks" in each.text]
        assert seen
        async with self.connection() as connection:
            plans_of_one = sqlite_plans if self.dialect.name == "sqlite" else postgresql_plans
            return [
                plan
                for each, parameters in seen
                for plan in await plans_of_one(partial(self.fetch, connection), each.text, parameters)
            ]


Fetch = Callable[..., Awaitable[Iterable[Row]]]
"""Runs a text on one connection."""


async def sqlite_plans(fetch: Fetch, text: str, parameters: Parameters) -> list[str]:
    return [as_text(await fetch(f"EXPLAIN QUERY PLAN {text}", parameters))]


async def postgresql_plans(fetch: Fetch, text: str, parameters: Parameters) -> list[str]:
    """The custom and the generic plan of a prepared statement."""
    names = list(dict.fromkeys(_PARAMETER.findall(text)))
    numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text)
    values = ", ".join(Literal(parameters[name]).as_string() for name in names)
    await fetch(f"PREPARE explained AS {numbered}")
    plans = []
    for kind in ("custom", "generic"):
        await fetch(f"SET plan_cache_mode = force_{kind}_plan")
        plans.append(as_text(await fetch(f"EXPLAIN EXECUTE explained ({values})")))
    count = "SELECT custom_plans, generic_plans FROM pg_prepared_statements WHERE name = 'explained'"
    assert list(await fetch(count)) == [(1, 1)]
    await fetch("DEALLOCATE explained")
    await fetch("RESET plan_cache_mode")
    return plans


def as_text(rows: Iterable[Row]) -> str:
    return "\n".join(str(row[-1]) for row in rows)


async def fill_sqlite(database_url: str) -> None:
    """Add 10,000 tasks of one user and 200 of each of fifty others; gather statistics."""
    url = parse_database_url(database_url)
    Schema(url).up()
    database = Database(url)
    store = SqlTaskStore(database)
    users = [USER] * 50 + [f"user-{number}" for number in range(50)]
    for number, user in enumerate(users):
        tasks = [new_task(user, created_at=later(number + each)) for each in range(200)]
        await store.create(tasks)
        await store.update(
            [TaskChange(*task.key, later(number), {"status": TaskStatus.COMPLETE}) for task in tasks[::3]]
        )
    async with database.connection() as connection:
        await database.fetch(connection, "ANALYZE")
    await database.close()


@pytest.fixture(scope="session")
def sqlite_full_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('full') / 'taskwell.db'}"
    asyncio.run(fill_sqlite(url))
    return url


@contextmanager
def filled_postgresql(
    admin_url: str, *, tasks: int, others: int, each: int, partitioned: bool = False
) -> Iterator[str]:
    """A database with so many tasks of one user and so many of each of the others, and statistics of them."""
    with fresh_database(admin_url) as url:
        Schema(parse_database_url(url)).up()
        if partitioned:
            partition(url)
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(
                "INSERT INTO users SELECT 'user-' || number, now() FROM generate_series(1, %s) number"
                " UNION ALL SELECT %s, now()",
                [others, USER],
            )
            admin.execute(
                """
                INSERT INTO tasks
                    (user_id, id, title, description, status, version, created_at, updated_at, completed_at)
                SELECT user_id, gen_random_uuid(), 'Buy milk', '', status, 1, moment, moment,
                    CASE status WHEN 2 THEN moment END
                FROM (
                    SELECT id, 1 + (number %% 3 = 0)::int, %s + number * interval '1 s'
                    FROM users, generate_series(1, CASE id WHEN %s THEN %s ELSE %s END) number
                ) AS _ (user_id, status, moment)
                """,
                [START, USER, tasks, each],
            )
            admin.execute("ANALYZE")
        yield url


@pytest.fixture(scope="session")
def postgresql_large_user_full_url(postgres: str) -> Iterator[str]:
    with filled_postgresql(postgres, tasks=64_000, others=50, each=200) as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_small_users_full_url(postgres: str) -> Iterator[str]:
    with filled_postgresql(postgres, tasks=1000, others=64_000, each=1) as url:
        yield url


@pytest.fixture(params=[*([] if IS_DISTRIBUTED else ["sqlite"]), "postgresql_large_user", "postgresql_small_users"])
def full_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_full_url")
    return url


@pytest_asyncio.fixture
async def explained(full_url: str) -> AsyncIterator[Explained]:
    database = Explained(parse_database_url(full_url))
    yield database
    await database.close()


def test_the_readers_of_plans_recognize_bad_plans() -> None:
    assert reads_whole_table("Seq Scan on tasks  (cost=0.00..1.00)")
    assert reads_whole_table("SCAN tasks")
    assert sorts("Sort  (cost=0.00..1.00)")
    assert sorts("USE TEMP B-TREE FOR ORDER BY")
    scan = "->  Index Scan using tasks_pkey on tasks tasks_1  (cost=0.41..8.43 rows=1)\n"
    assert not finds_tasks_by_key(f"{scan}  Index Cond: ((user_id)::text = (k.user_id)::text)\n  Filter: (id = k.id)")
    assert not finds_tasks_by_key("Bitmap Heap Scan on tasks")
    assert finds_tasks_by_key(f"{scan}  Index Cond: (((user_id)::text = (k.user_id)::text) AND (id = k.id))")
    assert not finds_tasks_by_key("SEARCH tasks USING INDEX tasks_newest_idx (user_id=?)")
    assert finds_tasks_by_key("SEARCH tasks USING INDEX sqlite_autoindex_tasks_1 (user_id=? AND id=?)")


def reads_whole_table(plan: str) -> bool:
    return "Seq Scan on tasks" in plan or "SCAN tasks" in plan


def sorts(plan: str) -> bool:
    return "Sort" in plan or "ORDER BY" in plan


def finds_tasks_by_key(plan: str) -> bool:
    """True if every scan of tasks looks rows up in a unique index by both of its columns."""
    scans = re.findall(r"(?:Scan.* on|SEARCH|SCAN) tasks\b", plan)
    by_key = re.findall(
        r"Index Scan using tasks_(?:pkey|user_id_request_id_key) on tasks.*\n"
        r" +Index Cond: \(\(\(user_id\)::text = .* AND \((?:id|request_id) = |"
        r"SEARCH tasks USING (?:COVERING )?INDEX (?:sqlite_autoindex_tasks_1|tasks_user_id_request_id_key)"
        r" \(user_id=\? AND (?:id|request_id)=\?\)",
        plan,
    )
    return len(by_key) == len(scans)


@pytest.mark.parametrize("newest_first", [True, False])
async def test_the_plan_of_every_page_is_a_range_of_one_index(explained: Explained, *, newest_first: bool) -> None:
    middle = Position(later(100), str(uuid4()))
    for status in (None, TaskStatus.INCOMPLETE, TaskStatus.COMPLETE):
        index = "tasks_newest_idx" if status is None else "tasks_status_newest_idx"
        for after in (None, middle):
            query = TaskQuery(USER, 51, status, newest_first, after)
            for plan in await explained.plans_of(partial(explained.store.page, [query])):
                assert index in plan
                assert not reads_whole_table(plan)
                assert not sorts(plan)
                assert "OFFSET" not in plan


@pytest.mark.parametrize("size", [1, 64])
async def test_the_plan_of_every_other_statement_finds_its_tasks_by_a_key(explained: Explained, size: int) -> None:
    for operation in await operations_by_key(explained.store, size):
        plans = await explained.plans_of(operation)
        assert any("tasks_pkey" in plan or "autoindex" in plan for plan in plans)
        for plan in plans:
            assert finds_tasks_by_key(plan), plan


async def operations_by_key(store: SqlTaskStore, size: int) -> Sequence[Callable[[], Awaitable[object]]]:
    """Every operation on so many tasks of one user, in each of its forms, except that for pages."""
    mine = await one_page(store, TaskQuery(USER, size))
    keys = [task.key for task in mine]
    again = [requested(USER, str(uuid4())) for _ in range(size)]
    await store.create(again)
    return (
        lambda: store.get(keys),
        lambda: store.update([TaskChange(*key, later(9999), {"title": "New"}) for key in keys]),
        lambda: store.update([TaskChange(*key, later(9999), {"title": "Newer"}, version=2) for key in keys]),
        lambda: store.create(again),
        lambda: store.create(again, wait=False),
        lambda: store.update([TaskChange(*key, later(9999), {"title": "Newest"}) for key in keys], wait=False),
        lambda: store.delete([TaskRemoval(*key) for key in keys[::2]]),
        lambda: store.delete([TaskRemoval(*key) for key in keys[::3]], wait=False),
        lambda: store.delete([TaskRemoval(*key, 1) for key in keys]),
    )


@pytest_asyncio.fixture
async def explained_by_owner(postgresql_large_user_full_url: str) -> AsyncIterator[Explained]:
    database = Explained(parse_database_url(postgresql_large_user_full_url), by_owner=True)
    yield database
    await database.close()


@pytest.mark.parametrize("size", [1, 64])
async def test_the_plan_of_every_statement_by_owner_finds_its_tasks_by_a_key(
    explained_by_owner: Explained, size: int
) -> None:
    for operation in await operations_by_key(explained_by_owner.store, size):
        for plan in await explained_by_owner.plans_of(operation):
            assert finds_tasks_by_key(plan), plan


@pytest.fixture(scope="session")
def partitioned_url(postgres: str) -> Iterator[str]:
    with filled_postgresql(postgres, tasks=1000, others=5000, each=1, partitioned=True) as url:
        yield url


@pytest_asyncio.fixture
async def explained_in_partitions(partitioned_url: str) -> AsyncIterator[Explained]:
    database = Explained(parse_database_url(partitioned_url), by_owner=True)
    yield database
    await database.close()


def partitions_in(plan: str) -> set[str]:
    return set(re.findall(r" on (?:tasks|users)_(\d+)\b", plan))


async def test_every_statement_by_owner_touches_one_partition(explained_in_partitions: Explained) -> None:
    database, store = explained_in_partitions, explained_in_partitions.store
    middle = Position(later(100), str(uuid4()))
    pages: list[Callable[[], Awaitable[object]]] = [
        partial(store.page, [TaskQuery(USER, 51, status, newest_first, after)])
        for status in (None, TaskStatus.COMPLETE)
        for newest_first in (True, False)
        for after in (None, middle)
    ]
    for operation in (*await operations_by_key(store, 8), *pages):
        for plan in await database.plans_of(operation):
            assert len(partitions_in(plan)) == 1, plan
            assert not reads_whole_table(plan), plan
