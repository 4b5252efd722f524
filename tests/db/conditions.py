"""Parses SQL and finds queries and writes on tasks that do not restrict the user."""

from collections.abc import Iterator

import sqlglot
from sqlglot import exp

_OWNER = "user_id"
_DISTRIBUTED_BY = {"tasks": "user_id", "users": "id"}


def about_tasks(statement: str, dialect: str) -> bool:
    """True if a statement names the table of tasks."""
    return any(table.name == "tasks" for table in _parsed(statement, dialect).find_all(exp.Table))


def ownerless(statement: str, dialect: str) -> list[str]:
    """The parts of a statement that reach tasks of no particular user: each a query, a change or an insertion.

    A part is bound to a user if `user_id` is equal to something from elsewhere, in a condition that always holds and is
    not one half of an OR. An insertion must say whose the task is.
    """
    parts = _parts(_parsed(statement, dialect), "tasks")
    return [part.sql() for part, name in parts if not _says_whose(part, name)]


def unrouted(statement: str) -> list[str]:
    """The parts of a PostgreSQL statement that a router cannot send to the shard of one user.

    A part is routed if the column that distributes its table is equal to a parameter, in a condition that always holds.
    An insertion is routed if it inserts a parameter, or the column of a query that is routed itself.
    """
    parsed = _parsed(statement, "postgresql")
    parts = [
        (part, name, column)
        for table_name, column in _DISTRIBUTED_BY.items()
        for part, name in _parts(parsed, table_name)
    ]
    return [part.sql() for part, name, column in parts if not _is_routed(part, name, column)]


def _is_routed(part: exp.Expr, table: str, column: str) -> bool:
    if not isinstance(part, exp.Insert):
        return any(_is_column_of_parameter(condition, table, column) for condition in _conditions(part))
    names = [each.name for each in part.this.expressions]
    source = part.expression
    rows = [source] if isinstance(source, exp.Select) else source.expressions
    inserted = [row.expressions[names.index(column)].unalias() for row in rows]
    return bool(inserted) and all(
        _is_parameter(each)
        or any(
            _is_column(each, name, distributed_by) and _is_routed(source, name, distributed_by)
            for name, distributed_by in _DISTRIBUTED_BY.items()
        )
        for each in inserted
    )


def _is_column_of_parameter(condition: exp.Expr, table: str, column: str) -> bool:
    if not isinstance(condition, exp.EQ):
        return False
    sides = [condition.left, condition.right]
    return any(_is_column(one, table, column) and _is_parameter(other) for one, other in (sides, sides[::-1]))


def _is_parameter(one: exp.Expr) -> bool:
    return isinstance(one.this if isinstance(one, exp.Cast) else one, exp.Placeholder | exp.Parameter)


def _parsed(statement: str, dialect: str) -> exp.Expr:
    [parsed] = sqlglot.parse(statement, dialect={"postgresql": "postgres"}.get(dialect, dialect))
    assert parsed is not None
    assert not isinstance(parsed, exp.Command), f"sqlglot does not understand {statement}"
    return parsed


def _parts(statement: exp.Expr, name: str) -> Iterator[tuple[exp.Expr, str]]:
    """Every query, change and insertion in it that reaches this table by itself, and what it calls the table."""
    for table in statement.find_all(exp.Table):
        if table.name == name:
            part = table.find_ancestor(exp.Select, exp.Update, exp.Delete, exp.Insert)
            yield part or statement, table.alias_or_name


def _says_whose(part: exp.Expr, tasks: str) -> bool:
    if isinstance(part, exp.Insert):
        return isinstance(part.this, exp.Schema) and _OWNER in {column.name for column in part.this.expressions}
    return any(_binds(condition, tasks) for condition in _conditions(part))


def _conditions(part: exp.Expr) -> Iterator[exp.Expr]:
    """The conditions that hold for every row: the terms of WHERE and of inner joins that are joined by AND."""
    where = part.args.get("where")
    joins = [join for join in part.args.get("joins") or [] if not join.side]
    for condition in [where and where.this, *(join.args.get("on") for join in joins)]:
        if condition is not None:
            yield from _terms(condition.unnest())


def _terms(condition: exp.Expr) -> Iterator[exp.Expr]:
    if isinstance(condition, exp.And):
        yield from _terms(condition.left.unnest())
        yield from _terms(condition.right.unnest())
    else:
        yield condition


def _binds(condition: exp.Expr, tasks: str) -> bool:
    if isinstance(condition, exp.EQ):
        sides = [condition.left, condition.right]
        return any(_is_owner(one, tasks) and not _of(other, tasks) for one, other in (sides, sides[::-1]))
    if isinstance(condition, exp.In):
        one = condition.this.unnest()
        columns = one.expressions if isinstance(one, exp.Tuple) else [one]
        return any(_is_owner(column, tasks) for column in columns)
    return False


def _is_owner(one: exp.Expr, tasks: str) -> bool:
    return _is_column(one, tasks, _OWNER)


def _is_column(one: exp.Expr, table: str, name: str) -> bool:
    return isinstance(one, exp.Column) and one.name == name and one.table == table


def _of(other: exp.Expr, tasks: str) -> bool:
    """True if an expression uses columns of the tasks themselves."""
    return any(column.table == tasks for column in other.find_all(exp.Column))
