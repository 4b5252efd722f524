"""Every statement that a server sends about tasks says whose: captured from a real one, and parsed."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from uuid import uuid4

import grpc
import pytest
from taskwell.v1 import tasks_pb2

from tests.db.conditions import about_tasks, ownerless, unrouted
from tests.db.recording import recorded_texts
from tests.rpc.given import Rows
from tests.running import COMPLETE, INCOMPLETE, Api, running_service, settings_for

GOOD = (
    "SELECT * FROM tasks WHERE tasks.user_id = %(user_id)s AND (id = 1 OR id = 2)",
    "SELECT * FROM tasks AS t JOIN keys AS k ON t.user_id = k.user_id AND t.id = k.id",
    "SELECT * FROM tasks WHERE (tasks.user_id, tasks.id) IN (SELECT user_id, id FROM keys)",
    "UPDATE tasks SET title = '' FROM keys WHERE tasks.user_id = keys.user_id",
    "DELETE FROM tasks WHERE 'a' = tasks.user_id",
    "INSERT INTO tasks (user_id, id) SELECT user_id, id FROM keys",
)
BAD = (
    "SELECT * FROM tasks",
    "SELECT * FROM tasks WHERE user_id = 'a'",  # of which table?
    "SELECT * FROM tasks WHERE id = 1 -- user_id = 'a'",
    "SELECT user_id FROM tasks WHERE id = 1 ORDER BY user_id",
    "SELECT * FROM tasks WHERE tasks.user_id = 'a' OR tasks.id = 1",
    "SELECT * FROM tasks WHERE NOT tasks.user_id = 'a'",
    "SELECT * FROM tasks WHERE tasks.user_id <> 'a'",
    "SELECT * FROM tasks WHERE tasks.user_id IS NOT NULL",
    "SELECT * FROM tasks WHERE tasks.user_id = tasks.user_id",
    "SELECT * FROM tasks AS t WHERE t.id IN (SELECT id FROM tasks WHERE tasks.user_id = 'a')",
    "SELECT * FROM tasks AS t JOIN users AS u ON t.id = u.id WHERE u.user_id = 'a'",
    "SELECT * FROM tasks LEFT JOIN keys ON tasks.user_id = keys.user_id",
    "SELECT id FROM tasks WHERE tasks.user_id = 'a' UNION ALL SELECT id FROM tasks",
    "WITH t AS (SELECT * FROM tasks) SELECT * FROM t WHERE t.user_id = 'a'",
    "UPDATE tasks SET title = '' WHERE id = 1",
    "UPDATE tasks SET user_id = 'a' WHERE id = 1",
    "DELETE FROM tasks WHERE id IN (SELECT id FROM keys WHERE keys.user_id = 'a')",
    "DELETE FROM tasks",
    "INSERT INTO tasks (id) VALUES (1)",
    "INSERT INTO tasks VALUES (1)",
    "INSERT INTO users SELECT user_id FROM tasks",
    "INSERT INTO tasks (user_id) SELECT title FROM tasks",
)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_the_reader_of_conditions_would_notice(dialect: str) -> None:
    texts = [statement.replace("%(user_id)s", ":user_id") for statement in GOOD] if dialect == "sqlite" else GOOD
    assert [text for text in texts if not about_tasks(text, dialect)] == []
    assert [text for text in texts if ownerless(text, dialect)] == []
    assert [text for text in BAD if not ownerless(text, dialect)] == []
    assert not about_tasks("SELECT 'tasks' FROM users WHERE tasks = 1", dialect)


ROUTED = (
    "SELECT * FROM tasks JOIN keys ON tasks.user_id = keys.user_id AND tasks.user_id = %(owner)s::VARCHAR",
    "SELECT * FROM users WHERE users.id IN (SELECT id FROM user_ids) AND users.id = %(owner)s",
    "INSERT INTO users (id, created_at) VALUES (%(owner)s::VARCHAR, %(created_at)s)",
    "INSERT INTO tasks (user_id, id) SELECT users.id, n.id FROM users JOIN n ON true WHERE users.id = %(owner)s",
    "DELETE FROM tasks WHERE tasks.user_id = %(owner)s",
)
UNROUTED = (
    "SELECT * FROM tasks JOIN keys ON tasks.user_id = keys.user_id",
    "SELECT * FROM tasks WHERE tasks.user_id = %(owner)s OR tasks.id = 1",
    "SELECT * FROM tasks WHERE tasks.user_id = %(owner)s UNION ALL SELECT * FROM tasks",
    "SELECT * FROM tasks JOIN users ON tasks.user_id = users.id WHERE users.id = %(owner)s",
    "SELECT * FROM users WHERE users.id IN (SELECT id FROM user_ids)",
    "WITH t AS (SELECT * FROM tasks) UPDATE tasks SET title = '' FROM t WHERE tasks.user_id = %(owner)s",
    "INSERT INTO users (id) SELECT user_id FROM new_tasks WHERE new_tasks.user_id = %(owner)s",
    "INSERT INTO tasks (user_id, id) SELECT users.id, n.id FROM users JOIN n ON true",
    "INSERT INTO tasks (id, user_id) SELECT n.id, n.user_id FROM n",
    "DELETE FROM tasks WHERE tasks.user_id IN (%(owner)s)",
)


def test_the_reader_of_routes_would_notice() -> None:
    assert [text for text in ROUTED if unrouted(text)] == []
    assert [text for text in UNROUTED if not unrouted(text)] == []


def all_there_is_to_do(api: Api, stranger: Api) -> None:
    """Every method, in every way that could be another statement."""
    request_id = str(uuid4())
    tasks = [api.create() for _ in range(4)]
    for user in (api, api, stranger):
        user.create(request_id=request_id)
    for order in ("", "create_time"):
        for status in (0, INCOMPLETE, COMPLETE):
            assert len(list(api.walk(page_size=1, order_by=order, status=status))) in {0, 5}
    for user in (api, stranger):
        calls: list[Callable[[], object]] = [
            partial(user.get, tasks[0].id),
            partial(user.update, tasks[0].id, title="New"),
            partial(user.update, tasks[0].id, title="New"),
            partial(user.update, tasks[0].id, description="New", etag=tasks[0].etag),
            partial(user.complete, tasks[1].id),
            partial(user.complete, tasks[1].id, etag="9"),
            partial(user.delete, tasks[2].id, etag="9"),
            partial(user.delete, tasks[2].id),
            partial(user.delete, tasks[2].id, allow_missing=True),
            partial(user.delete, tasks[3].id, etag=tasks[3].etag),
        ]
        for call in calls:
            with suppress(grpc.RpcError):
                call()
    at_once = [api.start("GetTask", tasks_pb2.GetTaskRequest(id=task.id)) for task in tasks * 20]
    assert {each.code() for each in at_once} == {grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND}


@pytest.mark.parametrize("users", ["any", "known"])
def test_every_statement_on_tasks_says_whose(database_url: str, monkeypatch: pytest.MonkeyPatch, users: str) -> None:
    seen = recorded_texts(monkeypatch)
    with running_service(settings_for(database_url, users=users)) as address, grpc.insecure_channel(address) as channel:
        api, stranger = Api(channel), Api(channel)
        if users == "known":
            for each in (api, stranger):
                Rows(database_url).insert_user(each.user)
        all_there_is_to_do(api, stranger)
    dialect = "sqlite" if database_url.startswith("sqlite") else "postgresql"
    about = {text for text in set(seen) if about_tasks(text, dialect)}
    assert [each for text in about for each in ownerless(text, dialect)] == []
    # Eight kinds of pages, and a statement each to get, create, find an earlier request, update and delete.
    # Where a lock was not granted in time, those that wait for one as well.
    assert 13 <= len(about) <= 16


@pytest.mark.parametrize("users", ["any", "known"])
def test_a_distributed_database_gets_statements_of_one_shard(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, users: str
) -> None:
    seen = recorded_texts(monkeypatch)
    settings = settings_for(postgresql_url, users=users, database_distributed="true")
    with running_service(settings) as address, grpc.insecure_channel(address) as channel:
        api, stranger = Api(channel), Api(channel)
        if users == "known":
            for each in (api, stranger):
                Rows(postgresql_url).insert_user(each.user)
        all_there_is_to_do(api, stranger)
        with suppress(grpc.RpcError):
            Api(channel).create()
    about = {text for text in seen if " tasks" in text or " users" in text}
    assert [part for text in about for part in unrouted(text)] == []
    # Those of test_every_statement_on_tasks_says_whose, and one that creates or finds the user.
    assert 14 <= len(about) <= 16
