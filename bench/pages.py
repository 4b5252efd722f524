"""ListTasks on the first and on the thousandth page of a user with 100,000 tasks, on both databases.

    make bench-pages

A real server and the generated client, one call at a time, pages of 50, first and thousandth in turn (A B A B), with
and without the status filter; medians in milliseconds over all rounds. The ratio is what matters: keyset paging makes a
page's cost independent of its place.
"""

import asyncio
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from service.db.engine import Database
from service.db.schema import Schema
from service.db.store import SqlTaskStore
from service.db.url import parse_database_url
from service.log import configure_log
from service.model import NewTask, TaskChange, TaskDraft, TaskStatus
from tests.postgres import fresh_database, running_postgres
from tests.running import running_service, settings_for

USER = "user-of-many"
TASKS = 100_000
PAGE = 50
DEEP = 1000
ROUNDS = 300


async def fill(url: str) -> None:
    """Insert a hundred thousand tasks of one user, every third complete."""
    database = Database(parse_database_url(url))
    store = SqlTaskStore(database)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for first in range(0, TASKS, 1000):
        moments = (start + timedelta(seconds=number) for number in range(first, first + 1000))
        tasks = [
            NewTask(USER, str(uuid4()), TaskDraft(f"Task of {moment}", "Words " * 20), moment) for moment in moments
        ]
        await store.create(tasks)
        done = [TaskChange(*task.key, task.created_at, {"status": TaskStatus.COMPLETE}) for task in tasks[::3]]
        await store.update(done)
    async with database.connection() as connection:  # what autovacuum would do in its own time
        await database.fetch(connection, "VACUUM")
        await database.fetch(connection, "ANALYZE")
    await database.close()


def measure(address: str, status: tasks_pb2.TaskStatus.ValueType) -> tuple[float, float]:
    """Median times (ms) of the first and the thousandth page."""
    with grpc.insecure_channel(address) as channel:
        stub = tasks_pb2_grpc.TaskServiceStub(channel)

        def page(token: str = "", size: int = PAGE) -> tasks_pb2.ListTasksResponse:
            request = tasks_pb2.ListTasksRequest(page_size=size, page_token=token, status=status)
            answer: tasks_pb2.ListTasksResponse = stub.ListTasks(request, metadata=(("x-user-id", USER),))
            return answer

        token = ""
        for _ in range((DEEP - 1) * PAGE // 1000):
            token = page(token, 1000).next_page_token
        for _ in range((DEEP - 1) * PAGE % 1000 // PAGE):
            token = page(token).next_page_token
        times: dict[str, list[float]] = {"": [], token: []}
        for _ in range(ROUNDS):
            for each, taken in times.items():
                started = time.perf_counter()
                answer = page(each)
                taken.append((time.perf_counter() - started) * 1000)
                assert len(answer.tasks) == PAGE
        return statistics.median(times[""]), statistics.median(times[token])


def report(name: str, url: str) -> None:
    Schema(parse_database_url(url)).up()
    asyncio.run(fill(url))
    with running_service(settings_for(url)) as address:
        for status in (tasks_pb2.TASK_STATUS_UNSPECIFIED, tasks_pb2.TASK_STATUS_INCOMPLETE):
            first, deep = measure(address, status)
            label = "all" if not status else "incomplete"
            print(f"{name:<12}{label:<12}{first:>10.2f}{deep:>12.2f}{deep / first:>8.2f}")


def main() -> None:
    configure_log("warning", "auto")
    print(f"{'database':<12}{'status':<12}{'page 1 ms':>10}{'page 1000':>12}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        report("SQLite", f"sqlite:///{folder}/taskwell.db")
    with running_postgres() as postgres, fresh_database(postgres) as url:
        report("PostgreSQL", url)


if __name__ == "__main__":
    main()
