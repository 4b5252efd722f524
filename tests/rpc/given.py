"""Values and requests for tests of the gRPC service, and direct access to its rows in the database."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from sqlalchemy import Engine, NullPool, create_engine, insert

from service.db.tables import tasks, users
from service.db.url import PostgresServer, SqliteFile, parse_database_url
from tests.running import DEADLINE

MALFORMED_IDS = (
    "",
    " ",
    "1",
    "x" * 36,
    "0192f0c1-2d3e-7f4a-8b5c-6d7e8f90123",
    "0192f0c1-2d3e-7f4a-8b5c-6d7e8f9012345",
    "0192f0c1-2d3e-7f4a-8b5c-6d7e8f90123g",
    "0192f0c12d3e7f4a8b5c6d7e8f901234",
    "0192f0c12d3e-7f4a-8b5c-6d7e8f90-1234",
    "{0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234}",
    "urn:uuid:0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234",
    " 0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234",
    "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234\n",
    "0192f0c1-2d3e-7f4a-8b5c-6d7e8f90123\0",
    "\uff10192f0c1-2d3e-7f4a-8b5c-6d7e8f901234",  # a digit, but not of ASCII
    "'; DROP TABLE tasks; --",
    pytest.param("x" * 10_000, id="long"),
)

# What no task ever answered, and yet must be taken for an etag: it is opaque, so there is no malformed one.
ALIEN_ETAGS = (
    "0",
    "01",
    "-1",
    " 1",
    "1 ",
    "1\n",
    "1.0",
    "0x1",
    '"1"',
    'W/"1"',
    "*",
    "null",
    "x",
    "\0",
    "\uff11",
    "😀",
    "f" * 15,
    "f" * 16,
    "9" * 30,
    pytest.param("1" * 10_000, id="long"),
)


def raw_call(
    channel: grpc.Channel,
    method: str,
    request: bytes,
    *,
    user: str | None = None,
    more: Iterable[tuple[str, str | bytes]] = (),
    **options: Any,
) -> Any:
    """Start a call of `/service/method`, or of a method of ours, with bytes in place of a message."""
    path = method if method.startswith("/") else f"/taskwell.v1.TaskService/{method}"
    metadata = [*more, *([("x-user-id", user)] if user else [])]
    call: Any = channel.unary_unary(path)
    return call.future(request, metadata=metadata, **{"timeout": DEADLINE, **options})


def ask_reflection(channel: grpc.Channel, version: str, *, user: str | None = None, **question: Any) -> Any:
    """One question to server reflection, `v1` or `v1alpha`. Their messages are the same on the wire."""
    ask: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    metadata = [("x-user-id", user)] if user else []
    [answer] = ask(iter([reflection_pb2.ServerReflectionRequest(**question)]), metadata=metadata, timeout=DEADLINE)
    return answer


class Rows:
    """The rows under a service, as something other than the service writes and locks them."""

    def __init__(self, database_url: str) -> None:
        self._engine = _engine(database_url)

    def insert_user(self, user: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(insert(users).values(id=user, created_at=datetime.now(UTC)))

    def insert_tasks(
        self, user: str, created_at: Sequence[datetime], *, ids: Sequence[UUID] | None = None, description: str = ""
    ) -> list[str]:
        """Make an incomplete task for each of these times, of a user who is there; answers their ids."""
        ids = ids or [uuid4() for _ in created_at]
        rows = [
            {
                "user_id": user,
                "id": str(task_id),
                "title": "Buy milk",
                "description": description,
                "status": 1,
                "version": 1,
                "created_at": moment,
                "updated_at": moment,
            }
            for task_id, moment in zip(ids, created_at, strict=True)
        ]
        with self._engine.begin() as connection:
            connection.execute(insert(tasks), rows)
        return [str(row["id"]) for row in rows]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No task can be written while the block runs: a call that would waits in the database."""
        with self._engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql("LOCK TABLE tasks IN EXCLUSIVE MODE")
            yield
            connection.rollback()


def _engine(database_url: str) -> Engine:
    match parse_database_url(database_url):
        case SqliteFile(path):
            return create_engine(f"sqlite:///{path}", poolclass=NullPool)
        case PostgresServer(conninfo):
            return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool)
