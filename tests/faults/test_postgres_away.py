"""Outages, restarts, locks and lost connections of PostgreSQL: errors that callers see, and recovery."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from grpc import StatusCode
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs
from taskwell.v1 import tasks_pb2

from service.db.engine import Database
from service.db.schema import Schema
from service.db.store import SqlTaskStore
from service.db.url import parse_database_url
from service.errors import DatabaseUnavailable, EtagStale, TaskNotFound
from service.model import Task, TaskChange, TaskRemoval
from service.tasks.store import Locked
from tests.db.making import later, new_task
from tests.postgres import fresh_database
from tests.proxy import Proxy, proxied
from tests.running import Api, refused, running_service, settings_for
from tests.server.starting import serving as process
from tests.waiting import until

# Of this test alone: other tests have databases of their own on the same server.
_OURS = "FROM pg_stat_activity WHERE application_name = 'taskwell' AND datname = current_database()"


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    """A database for this test alone."""
    with fresh_database(postgres) as url:
        yield url


@contextmanager
def serving(url: str, **more: Any) -> Iterator[Api]:
    settings = settings_for(url, migrate=True, **more)
    with running_service(settings) as address, grpc.insecure_channel(address) as channel:
        yield Api(channel)


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with proxied(url) as proxy:
        yield proxy


def every_method(api: Api) -> list[Callable[[], object]]:
    """The six methods, each of which succeeds when called once, in this order."""
    kept = api.create("Kept")
    gone = api.create("Gone")
    return [
        lambda: api.create("New"),
        lambda: api.list(),
        lambda: api.get(kept.id),
        lambda: api.update(kept.id, title="Changed", etag=kept.etag),
        lambda: api.complete(kept.id),
        lambda: api.delete(gone.id),
    ]


def test_every_method_is_unavailable_during_an_outage_and_recovers(proxy: Proxy) -> None:
    with serving(proxy.conninfo) as api:
        methods = every_method(api)
        proxy.refuse()
        for method in methods:
            with refused(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE") as refusal:
                method()
            assert refusal.retry_delay == 1
        proxy.accept()
        for method in methods:
            method()


@pytest.mark.parametrize(
    ("break_", "heal"),
    [
        ("REVOKE ALL ON tasks, users FROM {role}", "GRANT ALL ON tasks, users TO {role}"),
        ("ALTER TABLE tasks RENAME TO away", "ALTER TABLE away RENAME TO tasks"),
        ("ALTER TABLE tasks RENAME user_id TO away", "ALTER TABLE tasks RENAME away TO user_id"),
        ("ALTER SCHEMA public RENAME TO away", "ALTER SCHEMA away RENAME TO public"),
    ],
    ids=["rights", "table", "column", "schema"],
)
def test_every_method_is_unavailable_while_the_database_misses_something(url: str, break_: str, heal: str) -> None:
    role = f"r{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN")
        admin.execute(f"GRANT ALL ON SCHEMA public TO {role}")
        with serving(make_conninfo(url, user=role)) as api:
            methods = every_method(api)
            admin.execute(break_.format(role=role))
            for method in methods:
                with refused(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
                    method()
            admin.execute(heal.format(role=role))
            for method in methods:
                method()
        admin.execute(f"DROP OWNED BY {role}")
        admin.execute(f"DROP ROLE {role}")


def test_a_restart_between_calls_fails_no_method(proxy: Proxy) -> None:
    with serving(proxy.conninfo) as api:
        for method in every_method(api):
            proxy.cut()
            method()


def test_backends_terminated_between_calls_fail_no_method(url: str) -> None:
    with serving(url) as api, psycopg.connect(url, autocommit=True) as admin:
        for method in every_method(api):
            assert all(row[0] for row in admin.execute(f"SELECT pg_terminate_backend(pid, 5000) {_OURS}"))
            method()


def test_a_create_whose_response_is_lost_is_retried_without_a_duplicate(proxy: Proxy) -> None:
    with serving(proxy.conninfo) as api:
        api.create("First")
        proxy.swallow_answers()
        second = api.create("Second")
        assert proxy.swallowed.is_set()
        assert [second.id] == [task.id for task in api.list().tasks if task.title == "Second"]


def test_reads_and_updates_without_etag_are_retried_after_a_lost_response(proxy: Proxy) -> None:
    with serving(proxy.conninfo) as api:
        task = api.create()
        for operation in (
            lambda: api.get(task.id),
            lambda: api.list(),
            lambda: api.update(task.id, title="Changed"),
            lambda: api.complete(task.id),
        ):
            proxy.swallowed.clear()
            proxy.swallow_answers()
            operation()
            assert proxy.swallowed.is_set()
        assert (api.get(task.id).title, api.get(task.id).etag) == ("Changed", "3")


def test_a_write_that_is_not_repeatable_is_unavailable_after_a_lost_response(proxy: Proxy) -> None:
    with serving(proxy.conninfo) as api:
        task = api.create()
        for operation in (lambda: api.update(task.id, title="New", etag=task.etag), lambda: api.delete(task.id)):
            proxy.swallow_answers()
            with refused(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
                operation()


async def test_locked_tasks_are_reported_as_locked_without_wait(url: str) -> None:
    Schema(parse_database_url(url)).up()
    database = Database(parse_database_url(url))
    store = SqlTaskStore(database)
    locked, stale, same, free, removed = tasks = [new_task() for _ in range(5)]
    await store.create(tasks)
    with psycopg.connect(url) as other:
        other.execute("SELECT 1 FROM tasks WHERE id = ANY(%s::uuid[]) FOR UPDATE", [[task.id for task in tasks[:3]]])
        changes = [
            TaskChange(*locked.key, later(1), {"title": "New"}),
            TaskChange(*stale.key, later(1), {"title": "New"}, version=7),
            TaskChange(*same.key, later(1), {"title": same.draft.title}),
            TaskChange(*free.key, later(1), {"title": "New"}),
            TaskChange(*new_task().key, later(1), {"title": "New"}),
        ]
        outcomes = await store.update(changes, wait=False)
        assert [type(outcome) for outcome in outcomes] == [Locked, EtagStale, Task, Task, TaskNotFound]
        removals = [
            TaskRemoval(*locked.key),
            TaskRemoval(*stale.key, 7),
            TaskRemoval(*removed.key),
            TaskRemoval(*new_task().key),
        ]
        gone = await store.delete(removals, wait=False)
        assert [type(outcome) for outcome in gone] == [Locked, EtagStale, type(None), TaskNotFound]
    await database.close()


async def test_creates_for_a_locked_user_are_reported_as_locked_without_wait(url: str) -> None:
    Schema(parse_database_url(url)).up()
    for known_users_only in (False, True):
        database = Database(parse_database_url(url))
        store = SqlTaskStore(database, known_users_only=known_users_only)
        first, other_users = new_task(), new_task()
        await SqlTaskStore(database).create([first, other_users])
        with psycopg.connect(url) as other:
            other.execute("DELETE FROM tasks WHERE user_id = %s", [first.user_id])
            other.execute("DELETE FROM users WHERE id = %s", [first.user_id])
            tasks = [new_task(first.user_id), new_task(other_users.user_id), new_task(first.user_id)]
            outcomes = await store.create(tasks, wait=False)
            assert [type(outcome) for outcome in outcomes] == [Locked, Task, Locked]
            waiting = asyncio.ensure_future(store.create(tasks[:1]))
            await asyncio.to_thread(until_waiting, url)
            other.rollback()
        assert [type(outcome) for outcome in await waiting] == [Task]
        await database.close()


def test_a_user_that_is_being_deleted_delays_no_creates_of_others(url: str) -> None:
    with serving(url) as api, psycopg.connect(url) as other:
        api.create()
        mine = api.as_user()
        other.execute("DELETE FROM tasks WHERE user_id = %s", [api.user])
        other.execute("DELETE FROM users WHERE id = %s", [api.user])
        request = tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="New"))
        held = [api.start("CreateTask", request) for _ in range(40)]
        until_waiting(url)
        made = [mine.start("CreateTask", request) for _ in range(50)]
        assert len({call.result().id for call in made}) == 50
        assert not any(call.done() for call in held)
        other.rollback()
        assert len({call.result().id for call in held}) == 40


def test_many_locked_rows_delay_only_calls_for_their_own_tasks(url: str) -> None:
    with serving(url) as api, psycopg.connect(url) as other:
        locked = [api.create() for _ in range(40)]
        mine = api.as_user()
        free = mine.create()
        other.execute("SELECT 1 FROM tasks WHERE user_id = %s FOR UPDATE", [api.user])
        held = [api.start("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task.id)) for task in locked[20:]]
        held += [api.start("DeleteTask", tasks_pb2.DeleteTaskRequest(id=task.id)) for task in locked[:20]]
        until_waiting(url)
        for number in range(50):
            assert mine.update(free.id, title=f"Title {number}").title == f"Title {number}"
        mine.delete(free.id)
        assert not any(call.done() for call in held)
        other.rollback()
        for call in held:
            call.result()


async def test_of_one_batch_only_updates_with_an_etag_are_not_repeated_after_a_lost_connection(proxy: Proxy) -> None:
    Schema(parse_database_url(proxy.conninfo)).up()
    database = Database(parse_database_url(proxy.conninfo))
    store = SqlTaskStore(database)
    tasks = [new_task() for _ in range(4)]
    await store.create(tasks)
    proxy.swallow_answers()
    changes = [
        TaskChange(*task.key, later(1), {"title": "New"}, version=1 if number % 2 else None)
        for number, task in enumerate(tasks)
    ]
    outcomes = await store.update(changes)
    assert [type(outcome) for outcome in outcomes] == [Task, DatabaseUnavailable] * 2
    await database.close()


def test_a_silent_network_costs_the_deadline_and_no_more(proxy: Proxy) -> None:
    with serving(proxy.conninfo, max_call_seconds=5) as api:
        task = api.create()
        proxy.hold()
        with refused(StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"):
            api.get(task.id)
        proxy.flow()
        assert task == api.get(task.id)


def test_a_pooler_that_hangs_with_open_connections_is_survived(proxy: Proxy) -> None:
    with serving(proxy.conninfo, database_ping_after=1e-9) as api:  # each is pinged before use
        for _ in range(3):
            calls = [
                api.start("CreateTask", tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="New")))
                for _ in range(50)
            ]
            assert len({call.result().id for call in calls}) == 50
            proxy.freeze()
        api.create()


def test_a_call_is_unavailable_after_the_pool_timeout(url: str) -> None:
    pool = {"database_pool_size": 1, "database_max_overflow": 0, "database_pool_timeout": 0.2}
    with serving(url, **pool) as api, psycopg.connect(url) as other:
        task = api.create()
        other.execute("LOCK TABLE tasks")
        held = api.start("GetTask", tasks_pb2.GetTaskRequest(id=task.id))
        until_waiting(url)
        with refused(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
            api.get(task.id)
        other.rollback()
        assert task == held.result()


def test_a_locked_row_delays_calls_for_its_own_task_only(url: str) -> None:
    with serving(url) as api, psycopg.connect(url) as other:
        locked, free, theirs = api.create(), api.create(), api.as_user().create()
        other.execute("SELECT 1 FROM tasks WHERE id = %s FOR UPDATE", [locked.id])
        held = [api.start("CompleteTask", tasks_pb2.CompleteTaskRequest(id=locked.id)) for _ in range(5)]
        until_waiting(url)
        assert api.update(free.id, title="Changed").title == "Changed"
        assert api.get(locked.id) == locked
        assert api.as_user().create().id != theirs.id
        assert not any(call.done() for call in held)
        other.rollback()
        assert {call.result().etag for call in held} == {"2"}


def test_a_statement_that_its_caller_gave_up_is_cancelled_and_no_second_one_begins_before(url: str) -> None:
    waiting = f"SELECT count(*) {_OURS} AND wait_event_type = 'Lock'"
    with (
        serving(url, database_pool_size=3, database_max_overflow=0) as api,
        psycopg.connect(url) as other,
        psycopg.connect(url, autocommit=True) as admin,
    ):
        locked = api.create()
        other.execute("SELECT 1 FROM tasks WHERE id = %s FOR UPDATE", [locked.id])
        request = tasks_pb2.CompleteTaskRequest(id=locked.id)
        for _ in range(8):
            with suppress(grpc.RpcError):
                api.stub.CompleteTask(request, metadata=tuple(api.metadata), timeout=0.2)
            assert admin.execute(waiting).fetchone() in {(0,), (1,)}
            api.as_user().create()
        until(lambda: admin.execute(waiting).fetchone() == (0,))
        other.rollback()
        assert api.complete(locked.id).id == locked.id


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_silent_database_does_not_delay_the_shutdown(tmp_path: Path, proxy: Proxy, workers: str) -> None:
    arguments = ["--database-url", proxy.conninfo, "--migrate", "--workers", workers, "--shutdown-grace", "0.5"]
    with process(tmp_path, arguments) as server, server.api() as api:
        task = api.create()
        proxy.hold()
        calls = [api.start("GetTask", tasks_pb2.GetTaskRequest(id=task.id)) for _ in range(20)]
        calls += [api.start("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task.id)) for _ in range(20)]
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert all(call.code() is not StatusCode.OK for call in calls)


def test_a_cancelled_call_harms_no_other(url: str) -> None:
    with serving(url, database_pool_size=2, database_max_overflow=0) as api, psycopg.connect(url) as other:
        task = api.create()
        other.execute("LOCK TABLE tasks")
        calls = [api.start("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task.id)) for _ in range(20)]
        until_waiting(url)
        for call in calls:
            call.cancel()
        other.rollback()
        assert {task.id} == {api.complete(task.id).id for _ in range(20)}


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER DATABASE {database} SET default_transaction_read_only = on",
        "ALTER DATABASE {database} SET statement_timeout = '1ms'",
        "ALTER DATABASE {database} CONNECTION LIMIT 0",
    ],
)
def test_a_database_that_refuses_to_work_is_unavailable(url: str, statement: str) -> None:
    role = f"role_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as admin:
        database = admin.info.dbname
        admin.execute(f"CREATE ROLE {role} LOGIN SUPERUSER")
        admin.execute(f"GRANT ALL ON SCHEMA public TO {role}")
        with serving(url) as first:
            first.create()
        admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        admin.execute(f"ALTER ROLE {role} NOSUPERUSER")
        with serving(url.replace("user=postgres", f"user={role}")) as api:
            task = api.create()
            admin.execute(statement.format(database=database))
            if "timeout" in statement:
                admin.execute("CREATE FUNCTION slow() RETURNS bool LANGUAGE sql AS 'SELECT pg_sleep(1) IS NULL'")
                admin.execute("ALTER TABLE tasks ADD CONSTRAINT slow CHECK (title <> 'Slow' OR slow())")
            terminate(admin, role)
            with refused(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
                api.update(task.id, title="Slow")


def test_a_constraint_of_others_is_internal_and_tells_only_an_id_of_the_log(url: str) -> None:
    with serving(url) as api, capture_logs() as log, psycopg.connect(url, autocommit=True) as admin:
        task = api.create("A secret title")
        admin.execute("ALTER TABLE tasks ADD CONSTRAINT others CHECK (false) NOT VALID")
        methods: list[Callable[[], object]] = [
            lambda: api.update(task.id, title="Another"),
            lambda: api.create("A secret title"),
        ]
        for method in methods:
            with refused(StatusCode.INTERNAL, "INTERNAL") as refusal:
                method()
            sentence, _, error_id = refusal.message.rpartition(" ")
            assert sentence == "Something went wrong in the service; it was logged under the id"
            assert [refusal.message] == [line["message"] for line in log if error_id in str(line.get("message"))]
        assert "A secret title" not in str(log)


def terminate(admin: psycopg.Connection, role: str) -> None:
    admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [role])


def until_waiting(url: str) -> None:
    """Return when a statement of the service waits for a lock."""
    waiting = f"SELECT count(*) {_OURS} AND wait_event_type = 'Lock'"
    with psycopg.connect(url, autocommit=True) as admin:
        until(lambda: admin.execute(waiting).fetchone() != (0,))
