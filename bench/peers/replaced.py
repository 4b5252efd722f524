"""The replaced server: FastAPI and SQLModel, sync endpoints, a pool of 10 connections and 5 more, one process.

    .venv-bench/bin/python bench/peers/replaced.py DATABASE

Tasks over JSON in a table of its own, which it makes; `x-user-id` names the caller here too. One row is there for
GET /api/tasks/{id} and some hundred for GET /api/tasks.
"""

# Its packages are in .venv-bench alone, where mypy does not look.
# mypy: ignore-errors

import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID, uuid4

import psycopg
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Query
from sqlmodel import Field, Session, SQLModel, create_engine, select

READER, LISTER = "reader", "lister"
READ, LISTED = 1_000, 300
DESCRIPTION = "Sixty characters or so of what there is to do about it, and why."


def now() -> datetime:
    return datetime.now(UTC)


class TaskContent(SQLModel):
    title: str = Field(min_length=1, max_length=255)
    description: str = Field("", max_length=5000)


class Task(TaskContent, table=True):
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    user_id: str = Field(index=True)
    completed: bool = False
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)


# For ListTasks; a competent developer would have added it.
NEWEST = "CREATE INDEX task_newest_idx ON task (user_id, created_at DESC)"

engine = create_engine(
    "postgresql+psycopg://", creator=lambda: psycopg.connect(sys.argv[1]), pool_size=10, max_overflow=5
)
app = FastAPI()


def get_session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


Database = Annotated[Session, Depends(get_session)]
Caller = Annotated[str, Header(alias="x-user-id")]


@app.post("/api/tasks", status_code=201)
def create_task(content: TaskContent, session: Database, user_id: Caller) -> Task:
    task = Task(user_id=user_id, **content.model_dump())
    session.add(task)
    session.commit()
    session.refresh(task)
    return task


@app.get("/api/tasks/{task_id}")
def get_task(task_id: UUID, session: Database, user_id: Caller) -> Task:
    task = session.get(Task, task_id)
    if task is None or task.user_id != user_id:
        raise HTTPException(404, "Task not found")
    return task


@app.get("/api/tasks")
def list_tasks(
    session: Database, user_id: Caller, limit: Annotated[int, Query(ge=1, le=1000)] = 50, offset: int = 0
) -> list[Task]:
    newest = select(Task).where(Task.user_id == user_id).order_by(Task.created_at.desc())
    return list(session.exec(newest.offset(offset).limit(limit)))


def fill() -> None:
    """Create the table and the tasks to read, with the ids that all contenders use."""
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        session.connection().exec_driver_sql(NEWEST)
        for user, count in ((READER, READ), (LISTER, LISTED)):
            for number in range(1, count + 1):
                task = Task(user_id=user, title=f"Task {number} of the benchmark", description=DESCRIPTION)
                task.created_at -= timedelta(seconds=number)
                if user == READER:
                    task.id = UUID(f"00000000-0000-7000-8000-{number:012}")
                session.add(task)
        session.commit()
        session.connection().exec_driver_sql("ANALYZE")
        session.commit()


def main() -> None:
    fill()
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"HTTP listening on 127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, access_log=False, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
