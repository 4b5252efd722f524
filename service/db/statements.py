"""Every statement of the serving path, built and compiled once for a dialect. `user_id` stands in every WHERE.

With `by_owner`, as a distributed database needs it, each statement is for rows of one user, and each use of a table has
one more condition, `user_id = :owner`. A router such as that of Citus finds the shard by it, but does not look into the
array of a RowSet. The condition stands beside the one on the RowSet and does not replace it: PostgreSQL's generic plan
would then read all tasks of the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    DateTime,
    Dialect,
    Executable,
    Integer,
    Select,
    SmallInteger,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from service.db.compiled_statement import CompiledStatement
from service.db.rowset import OWNER, Columns, RowSet
from service.db.tables import TaskId, UtcDateTime, tasks, users
from service.model import CONTENT_FIELDS, WRITABLE_FIELDS, Task, TaskChange, TaskQuery, TaskStatus

_UTC: ColumnElement[str] = literal_column("'UTC'", Text())

# As text, which is what the model has: the driver would make an object of each only for us to print it.
_ID = cast(tasks.c.id, Text).label("id")


# Each writable field has a bit in the column `written` of a change: null may be what is written.
_WRITTEN_BITS = {name: 1 << number for number, name in enumerate(WRITABLE_FIELDS)}


def task_columns(dialect: Dialect) -> tuple[ColumnElement[Any], ...]:
    """The columns of model.Task, in its order; moments as naive values in UTC.

    PostgreSQL would answer in the zone of the session, which its driver looks up for every value.
    """

    def read(name: str) -> ColumnElement[Any]:
        column, bare = tasks.c[name], DateTime()
        if not isinstance(column.type, UtcDateTime):
            return _ID if name == "id" else column
        return func.timezone(_UTC, column, type_=bare) if dialect.name == "postgresql" else type_coerce(column, bare)

    return tuple(read(name) for name in Task._fields)


class PageKind(NamedTuple):
    """The properties of a query for which there is a statement of its own."""

    by_status: bool
    newest_first: bool
    continued: bool

    @classmethod
    def of(cls, query: TaskQuery) -> PageKind:
        return cls(query.status is not None, query.newest_first, query.after is not None)


_QUERY_TYPES: Columns = {
    "number": Integer(),
    "user_id": Text(),
    "limit": BigInteger(),
    "status": SmallInteger(),
    "created_at": UtcDateTime(),
    "id": TaskId,
}


_LOCK_LIMIT = "100ms"
"""Lock timeout of a create in a batch, which must not wait long for the locks of others."""


class Statements:
    """All statements, and the RowSets that carry their parameters: of any number of rows, or of a `single` one."""

    def __init__(self, dialect: Dialect, *, by_owner: bool = False, single: bool = False) -> None:
        def row_set(name: str, columns: Columns, owner_column: str = "user_id") -> RowSet:
            return RowSet(dialect, name, columns, owner_column=owner_column if by_owner else None, single=single)

        self.by_owner = by_owner
        self._insert: Any = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
        self.has_lateral = dialect.name == "postgresql" and not single
        key: Columns = {"user_id": Text(), "id": TaskId}
        self.keys = row_set("keys", key)
        self.requests = row_set("requests", {**key, "request_id": TaskId})
        self.user_ids = row_set("user_ids", {"id": Text()}, "id")
        self.removals = row_set("removals", {**key, "version": BigInteger()})
        self.queries = row_set("queries", _QUERY_TYPES)
        drafted = {f"draft.{name}": tasks.c[name].type for name in CONTENT_FIELDS}
        request = {"request_id": TaskId, "request_digest": Text()}
        self.new_tasks = row_set("new_tasks", {**key, **drafted, **request, "created_at": UtcDateTime()})
        values = {name: tasks.c[name].type for name in WRITABLE_FIELDS}
        change: Columns = {"version": BigInteger(), "changed_at": UtcDateTime(), "written": Integer()}
        self._changes = row_set("changes", {**key, **change, **values})
        self._dialect = dialect
        self._pages: dict[PageKind, CompiledStatement] = {}
        self._task_columns = task_columns(dialect)
        self.get = self._compiled(select(*self._task_columns).join(self.keys.cte, self._same_task(self.keys)))
        self.find_requests = self._compiled(self._find_requests())
        self.create = self._creates(self.new_tasks.cte, with_users=False)
        self.create_with_users = self._creates(self.new_tasks.cte, with_users=True)
        self.create_unlocked = self._creates(self._impatient_tasks(), with_users=False)
        self.create_with_users_unlocked = self._creates(self._impatient_tasks(), with_users=True)
        self.create_user = self._compiled(self._insert_owner())
        self.update = self._compiled(self._update(self._locked(self._changes)))
        self.update_unlocked = self._compiled(self._update(self._locked(self._changes, skips=True)))
        self.delete = self._compiled(self._delete(self._locked(self.removals)))
        self.delete_unlocked = self._compiled(self._delete(self._locked(self.removals, skips=True)))
        found = select(users.c.id).where(users.c.id.in_(select(self.user_ids.c.id)), *self._of_owner(users.c.id))
        self.find_users = self._compiled(found)

    def pages(self, kind: PageKind) -> CompiledStatement:
        """The statement for pages, with LATERAL of several queries. Each row starts with the number of its query."""
        if kind not in self._pages:
            self._pages[kind] = self._compiled(self._lateral_pages(kind) if self.has_lateral else self._page(kind))
        return self._pages[kind]

    def page_parameters(self, queries: Sequence[tuple[int, TaskQuery]]) -> dict[str, Any]:
        """The parameters for numbered queries of one kind; for a single query if there is no LATERAL for several."""
        rows = [
            (number, query.user_id, query.limit, query.status, *(query.after or (None, None)))
            for number, query in queries
        ]
        if self.has_lateral:
            return self.queries.parameters(rows)
        parameters = dict(zip(_QUERY_TYPES, rows[0], strict=True))
        return {**parameters, OWNER: parameters["user_id"]} if self.by_owner else parameters

    def change_parameters(self, changes: Sequence[TaskChange]) -> dict[str, Any]:
        """The parameters for these changes."""
        return self._changes.parameters(
            (
                change.user_id,
                change.id,
                change.version,
                change.changed_at,
                sum([_WRITTEN_BITS[name] for name in change.values]),
                *map(change.values.get, WRITABLE_FIELDS),
            )
            for change in changes
        )

    def _lateral_pages(self, kind: PageKind) -> Executable:
        asked = self.queries
        page = self._ranged(select(*self._task_columns), kind, asked.c).correlate(asked.cte).lateral("page")
        return select(asked.c.number, *page.c).select_from(asked.cte).join(page, true())

    def _page(self, kind: PageKind) -> Executable:
        asked = SimpleNamespace(**{name: bindparam(name, type_=type_) for name, type_ in _QUERY_TYPES.items()})
        return self._ranged(select(asked.number, *self._task_columns), kind, asked)

    def _ranged(self, statement: Select[Any], kind: PageKind, asked: Any) -> Select[Any]:  # noqa: ANN401 - columns by name
        """Restrict a statement to a range of one index, in index order. Never uses OFFSET."""
        statement = statement.where(tasks.c.user_id == asked.user_id, *self._of_owner(tasks.c.user_id))
        if kind.by_status:
            statement = statement.where(tasks.c.status == asked.status)
        position, after = tuple_(tasks.c.created_at, tasks.c.id), tuple_(asked.created_at, asked.id)
        if kind.continued:
            statement = statement.where(position < after if kind.newest_first else position > after)
        order = (column.desc() if kind.newest_first else column for column in (tasks.c.created_at, tasks.c.id))
        return statement.order_by(*order).limit(asked.limit)

    def _compiled(self, statement: Executable) -> CompiledStatement:
        return CompiledStatement(statement, self._dialect)

    def _creates(self, new: CTE, *, with_users: bool) -> tuple[CompiledStatement, ...]:
        """Create tasks and their users: in one statement, or on SQLite in two of one transaction."""
        if self.by_owner or not with_users:
            return (self._compiled(self._create(new)),)
        if self._dialect.name == "postgresql":
            return (self._compiled(self._create(new).add_cte(self._insert_users(new).cte("new_users"))),)
        return (self._compiled(self._insert_users(new)), self._compiled(self._create(new)))

    def _impatient_tasks(self) -> CTE:
        """The new tasks, in a statement that does not wait for locks for long.

        A create waits for its user where that is being deleted, and for an equal request. Neither can be skipped.
        A statement for one owner may wait: it delays no other user, and a router refuses to pass a function on that
        changes a setting.
        """
        if self._dialect.name != "postgresql" or self.by_owner:
            return self.new_tasks.cte
        # Local to the transaction, which is this statement.
        limit = select(func.set_config("lock_timeout", _LOCK_LIMIT, true())).cte("lock_limit")
        return select(*self.new_tasks.c).join(limit, true()).cte("impatient_tasks")

    def _insert_users(self, new: CTE) -> Any:  # noqa: ANN401 - the insert of either dialect
        rows = select(new.c.user_id, func.min(new.c.created_at, type_=UtcDateTime())).group_by(new.c.user_id)
        # In one order everywhere, or two batches with the same new users could deadlock. `true()` because SQLite would
        # otherwise take ON CONFLICT for a join condition.
        rows = rows.where(true()).order_by(new.c.user_id)
        return self._insert(users).from_select(["id", "created_at"], rows).on_conflict_do_nothing()

    def _insert_owner(self) -> Any:  # noqa: ANN401 - the insert of either dialect
        values = {"id": bindparam(OWNER, type_=Text()), "created_at": bindparam("created_at", type_=UtcDateTime())}
        return self._insert(users).values(values).on_conflict_do_nothing()

    def _create(self, new_tasks: CTE) -> Any:  # noqa: ANN401 - the insert of either dialect
        """Insert new tasks. By owner, only if the user has a row: a router must find the shard of what is inserted."""
        new = new_tasks.c
        source = {
            "user_id": users.c.id if self.by_owner else new.user_id,
            "id": new.id,
            **{name: new[name] for name in CONTENT_FIELDS},
            "status": _constant(TaskStatus.INCOMPLETE, SmallInteger()),
            "version": _constant(1, BigInteger()),
            "request_id": new.request_id,
            "request_digest": new.request_digest,
            "created_at": new.created_at,
            "updated_at": new.created_at,
        }
        rows = select(*source.values()).where(*self._of_owner(users.c.id) or (true(),))
        if self.by_owner:
            rows = rows.select_from(users).join(new_tasks, true())
        # No conflict target: a known request_id and our own id (a retry after a lost connection) are both skipped here
        # and looked up afterwards.
        statement = self._insert(tasks).from_select(list(source), rows).on_conflict_do_nothing()
        return statement.returning(tasks.c.user_id, _ID)

    def _find_requests(self) -> Executable:
        """Find the tasks because of which a create inserted nothing: those with the same request_id or id."""
        asked = self.requests
        by_request = and_(
            tasks.c.user_id == asked.c.user_id,
            tasks.c.request_id == asked.c.request_id,
            *self._of_owner(tasks.c.user_id),
        )
        found = select(*self._task_columns, tasks.c.request_id, tasks.c.request_digest)
        # Not one join with an OR: PostgreSQL would read the whole table for it.
        return union_all(found.join(asked.cte, by_request), found.join(asked.cte, self._same_task(asked)))

    def _update(self, locked: CTE) -> Executable:
        new = locked.c
        values: dict[str, ColumnElement[Any]] = {
            name: case((new.written.bitwise_and(_constant(bit)) != _constant(0), new[name]), else_=tasks.c[name])
            for name, bit in _WRITTEN_BITS.items()
        }
        # The clocks of several servers differ: updated_at never goes back.
        changed_at = case((new.changed_at > tasks.c.updated_at, new.changed_at), else_=tasks.c.updated_at)
        return (
            update(tasks)
            .values(
                **values,
                version=tasks.c.version + _constant(1),
                updated_at=changed_at,
                completed_at=case(
                    (
                        values["status"] == _constant(TaskStatus.COMPLETE),
                        func.coalesce(tasks.c.completed_at, changed_at),
                    )
                ),
            )
            .where(
                self._same_task(locked),
                or_(new.version.is_(None), new.version == tasks.c.version),
                or_(*(value.is_distinct_from(tasks.c[name]) for name, value in values.items())),
            )
            .returning(*self._task_columns)
        )

    def _delete(self, gone: CTE) -> Executable:
        # Two conditions on the same rows: the first finds them by the primary key, the second compares the version.
        # One EXISTS alone would have both databases read the whole table.
        any_version = or_(gone.c.version.is_(None), gone.c.version == tasks.c.version)
        return (
            delete(tasks)
            .where(
                tuple_(tasks.c.user_id, tasks.c.id).in_(select(gone.c.user_id, gone.c.id)),
                *self._of_owner(tasks.c.user_id),
                select(_constant(1)).where(self._same_task(gone), any_version).correlate(tasks).exists(),
            )
            .returning(tasks.c.user_id, _ID)
        )

    def _locked(self, rows: RowSet, *, skips: bool = False) -> CTE:
        """These rows, with their tasks locked in the order of their keys, or two batches could deadlock.

        Waits for tasks that another transaction has locked, or skips them. SQLite locks no rows and drops the clause.
        """
        order = (tasks.c.user_id, tasks.c.id)
        found = select(rows.cte).join(tasks, self._same_task(rows)).order_by(*order)
        return found.with_for_update(of=tasks, skip_locked=skips).cte("locked")

    def _same_task(self, rows: RowSet | CTE) -> ColumnElement[bool]:
        return and_(tasks.c.user_id == rows.c.user_id, tasks.c.id == rows.c.id, *self._of_owner(tasks.c.user_id))

    def _of_owner(self, user_id: ColumnElement[str]) -> tuple[ColumnElement[bool], ...]:
        """The condition of a statement for one user; none otherwise."""
        return (user_id == bindparam(OWNER, type_=Text()),) if self.by_owner else ()


def _constant(number: int, type_: TypeEngine[int] | None = None) -> ColumnElement[int]:
    """A number in the text of a statement. As a parameter, the driver would convert it for every batch."""
    return literal_column(str(int(number)), type_ or Integer())
