"""Export and import of users and tasks, as rows of plain values that are the same for both databases.

The columns are those of the tables, so that a new one is exported and imported without a change here.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Column, Integer, Table, Uuid

from service.db.session import Session
from service.db.tables import UtcDateTime, tasks, users
from service.model import is_user_id

Values = dict[str, Any]
"""A row by the names of its columns. Times are text in UTC: 2026-11-27T10:15:02.123456Z."""

TABLES: Mapping[str, Table] = {"user": users, "task": tasks}
"""The tables, by the kind of their rows."""
PAGE = 1_000
"""Rows that are read or written at once: tasks of the largest size then take about 5 MiB."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NIL = "00000000-0000-0000-0000-000000000000"


class Imported(NamedTuple):
    """Rows of a batch that were created, and the keys of stored tasks that differ from those of the batch."""

    users: int
    tasks: int
    different: Sequence[tuple[str, str]]


def exported(session: Session, user_id: str | None = None) -> Iterator[tuple[str, Values]]:
    """Yield users and tasks with their kinds, in the order of their keys: each user before its tasks.

    Each page is a statement of its own, so that no transaction is long. Tasks of users who were created after their
    page was read are left out.
    """
    task_rows = _tasks(session, user_id)
    task = next(task_rows, None)
    for user in _users(session, user_id):
        yield "user", user
        while task and task["user_id"] <= user["id"]:
            if task["user_id"] == user["id"]:
                yield "task", task
            task = next(task_rows, None)


def import_batch(session: Session, rows: Sequence[tuple[str, Values]]) -> Imported:
    """Insert rows in one transaction. Those that are there already are compared, and left as they are."""
    made_users, made_tasks = ([row for kind, row in rows if kind == wanted] for wanted in ("user", "task"))

    def insert() -> tuple[int, int]:
        return _insert(session, users, made_users), _insert(session, tasks, made_tasks)

    created_users, created_tasks = session.in_transaction(insert)
    different = list(_different(session, made_tasks)) if created_tasks < len(made_tasks) else []
    return Imported(created_users, created_tasks, different)


def parsed(line: Values) -> tuple[str, Values]:
    """The kind and the values of an exported row. Raises ValueError with what is wrong with it."""
    kind = line.pop("kind", None)
    table = TABLES.get(kind) if isinstance(kind, str) else None
    if table is None:
        raise ValueError("the field kind must be user or task")
    if unknown := line.keys() - table.columns.keys():
        raise ValueError(f"the field {min(unknown)} is unknown to this version")
    values = {name: line.get(name) for name in table.columns.keys()}  # noqa: SIM118 - those of a table are columns
    for name, column in table.columns.items():
        if not _is_value(column, values[name]):
            raise ValueError(f"the field {name} is missing or no valid value")
    if not is_user_id(values["id" if table is users else "user_id"]):
        raise ValueError("the user id must have 1 to 255 printable ASCII characters without spaces")
    return str(kind), values


def _is_value(column: Column[Any], value: object) -> bool:
    if value is None:
        return bool(column.nullable)
    if isinstance(column.type, Integer):
        return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63
    if not isinstance(value, str) or "\0" in value:
        return False
    if isinstance(column.type, UtcDateTime):
        with suppress(ValueError):
            return _TIME.fullmatch(value) is not None and bool(datetime.fromisoformat(value))
        return False
    if isinstance(column.type, Uuid):
        return _UUID.fullmatch(value) is not None
    with suppress(UnicodeEncodeError):
        return value.encode() is not None
    return False


def _users(session: Session, user_id: str | None) -> Iterator[Values]:
    if user_id is not None:
        yield from _rows(session, users, "users.id = :user_id", {"user_id": user_id})
        return
    query, last = f"users.id > :last ORDER BY id LIMIT {PAGE}", ""
    while page := _rows(session, users, query, {"last": last}):
        yield from page
        last = page[-1]["id"]


def _tasks(session: Session, user_id: str | None) -> Iterator[Values]:
    owner = "(tasks.user_id, tasks.id) > (:last_user, :last)"
    if user_id is not None:
        owner = "tasks.user_id = :last_user AND tasks.id > :last"
    query = f"{owner} ORDER BY user_id, tasks.id LIMIT {PAGE}"
    last = {"last_user": user_id or "", "last": _NIL}
    while page := _rows(session, tasks, query, last):
        yield from page
        last = {"last_user": page[-1]["user_id"], "last": page[-1]["id"]}


def _rows(session: Session, table: Table, condition: str, parameters: Values) -> list[Values]:
    names = table.columns.keys()
    return [dict(zip(names, row, strict=True)) for row in session.fetch(_select(session, table, condition), parameters)]


def _select(session: Session, table: Table, condition: str) -> str:
    shown = ", ".join(_shown(session, column) for column in table.columns)
    return f"SELECT {shown} FROM {table.name} WHERE {condition}"  # noqa: S608 - texts of this module


def _shown(session: Session, column: Column[Any]) -> str:
    """The SQL for the exported value of a column."""
    name = f"{column.table.name}.{column.name}"
    if isinstance(column.type, UtcDateTime):
        if session.is_postgres:
            return f"to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        return f"replace({name}, ' ', 'T') || 'Z'"
    return f"CAST({name} AS text)" if isinstance(column.type, Uuid) else name


def _insert(session: Session, table: Table, rows: Sequence[Values]) -> int:
    """Insert the rows whose keys are free, and return their number."""
    if not rows:
        return 0
    names = table.columns.keys()
    if not session.is_postgres:
        times = [name for name, column in table.columns.items() if isinstance(column.type, UtcDateTime)]
        rows = [{**row, **{name: _sqlite_time(row[name]) for name in times}} for row in rows]
    # One row in each statement, which a distributed database sends to the node of its user.
    values = ", ".join(f":{name}" for name in names)
    insert = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values}) ON CONFLICT DO NOTHING"  # noqa: S608 - as above
    return session.change_many(insert, rows)


def _sqlite_time(text: str | None) -> str | None:
    return text and text.rstrip("Z").replace("T", " ")


def _different(session: Session, rows: Sequence[Values]) -> Iterator[tuple[str, str]]:
    """The keys of the rows that are not stored as they are here."""
    asked = [
        {"user_id": user_id, "ids": ids if session.is_postgres else json.dumps(ids)}
        for user_id, some in groupby(rows, key=itemgetter("user_id"))
        if (ids := [row["id"] for row in some])
    ]
    among = "= ANY(CAST(:ids AS uuid[]))" if session.is_postgres else "IN (SELECT value FROM json_each(:ids))"
    query = _select(session, tasks, f"tasks.user_id = :user_id AND tasks.id {among}")
    names = tasks.columns.keys()
    found = [dict(zip(names, row, strict=True)) for row in session.fetch_many(query, asked)]
    stored = {(row["user_id"], row["id"]): row for row in found}
    for row in rows:
        key = (row["user_id"], row["id"])
        if stored.get(key) != row:
            yield key
