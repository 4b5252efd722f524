"""The textbook server: grpc's thread pool, and an ORM session per call from a pool that checks its connections.

    python bench/peers/textbook.py DATABASE

It serves Taskwell's contract on Taskwell's tables, without Taskwell's refinements: the caller is whoever the metadata
names, titles are checked for their length, pages have no tokens.
"""

# ruff: noqa: N802 - the names of methods are the contract's

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import grpc
import psycopg
import uuid_utils
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import DateTime, String, Text, Uuid, create_engine, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from service.db.url import PostgresServer, parse_database_url

POOL, OVERFLOW = 10, 5
THREADS = POOL + OVERFLOW  # a thread more would only wait for a connection
INCOMPLETE = 1


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Task(Base):
    __tablename__ = "tasks"

    user_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    status: Mapped[int]
    version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


def message(task: Task) -> tasks_pb2.Task:
    return tasks_pb2.Task(
        id=task.id,
        title=task.title,
        description=task.description,
        status=tasks_pb2.TaskStatus.ValueType(task.status),
        create_time=_timestamp(task.created_at),
        update_time=_timestamp(task.updated_at),
        complete_time=_timestamp(task.completed_at) if task.completed_at else None,
        etag=str(task.version),
    )


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


class Servicer(tasks_pb2_grpc.TaskServiceServicer):
    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def CreateTask(self, request: tasks_pb2.CreateTaskRequest, context: grpc.ServicerContext) -> tasks_pb2.Task:
        user = _caller(context)
        if not 1 <= len(request.task.title) <= 255:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "title must have 1 to 255 characters")
        now = datetime.now(UTC)
        with self._sessions.begin() as session:
            session.execute(insert(User).values(id=user, created_at=now).on_conflict_do_nothing())
            task = Task(
                user_id=user,
                id=str(uuid_utils.uuid7()),
                title=request.task.title,
                description=request.task.description,
                status=INCOMPLETE,
                version=1,
                created_at=now,
                updated_at=now,
            )
            session.add(task)
        return message(task)

    def GetTask(self, request: tasks_pb2.GetTaskRequest, context: grpc.ServicerContext) -> tasks_pb2.Task:
        with self._sessions() as session:
            task = session.get(Task, (_caller(context), request.id))
            if task is None:
                context.abort(grpc.StatusCode.NOT_FOUND, "there is no such task")
            return message(task)

    def ListTasks(
        self, request: tasks_pb2.ListTasksRequest, context: grpc.ServicerContext
    ) -> tasks_pb2.ListTasksResponse:
        newest = select(Task).where(Task.user_id == _caller(context))
        newest = newest.order_by(Task.created_at.desc(), Task.id.desc()).limit(request.page_size)
        with self._sessions() as session:
            return tasks_pb2.ListTasksResponse(tasks=[message(task) for task in session.scalars(newest)])


def _caller(context: grpc.ServicerContext) -> str:
    user = next((value for key, value in context.invocation_metadata() if key == "x-user-id"), None)
    if user is None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "x-user-id is missing")
    return str(user)


def main() -> None:
    database = parse_database_url(sys.argv[1])
    assert isinstance(database, PostgresServer)
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(database.conninfo),
        pool_size=POOL,
        max_overflow=OVERFLOW,
        pool_pre_ping=True,
    )
    server = grpc.server(ThreadPoolExecutor(THREADS))
    # expire_on_commit=False: the response is built from the written values, without a SELECT after the COMMIT.
    sessions = sessionmaker(engine, expire_on_commit=False)
    servicer = Servicer(sessions)  # type: ignore[abstract]  # the other methods are not measured
    tasks_pb2_grpc.add_TaskServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"gRPC listening on 127.0.0.1:{port}", flush=True)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    stopping.wait()
    server.stop(0).wait()


if __name__ == "__main__":
    main()
