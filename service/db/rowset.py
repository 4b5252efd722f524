"""Many rows as the parameters of one statement.

A list in SQL would give a different statement text for every length, each compiled, prepared and planned anew. With a
RowSet the text is the same for every batch size: PostgreSQL takes an array for each column (`unnest`), SQLite one JSON
text (`json_each`). An array is sent as the text of its literal. The driver would build the same text, value by value,
in several times the time.

Each array stands in a subquery of its own, so that PostgreSQL does not see its length when it plans. Otherwise it would
expect ten rows of a generic plan, find that a plan for a batch of less is cheaper, and plan each such batch anew, which
takes several times as long as running it. A single row has a text of its own: PostgreSQL plans and runs it faster than
an array of one.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Dialect,
    FromClause,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

OWNER = "owner"
"""The parameter with the user of a statement for one user."""

Columns = Mapping[str, TypeEngine[Any]]
Parameters = dict[str, Any]


class RowSet:
    """Rows with typed columns, as a table to select from; `of` and `parameters` make the parameters of a statement.

    `columns` has a type for each path of an attribute, such as `draft.title`; the column has the last name of the path.
    If the rows belong to one user, `owner_column` is the column with that user, and the parameters have it as `owner`.
    A `single` RowSet has one row.
    """

    def __init__(
        self, dialect: Dialect, name: str, columns: Columns, *, owner_column: str | None = None, single: bool = False
    ) -> None:
        self._name = name
        self._is_single = single
        self._owner_index = list(columns).index(owner_column) if owner_column else None
        self._row = attrgetter(*columns)
        types = self._types = {path.rpartition(".")[2]: each for path, each in columns.items()}
        self._parameters = {key: f"{name}_{key}" for key in types}
        self._is_postgresql = dialect.name == "postgresql"
        self._binders = [each.dialect_impl(dialect).bind_processor(dialect) for each in types.values()]
        self.cte: CTE = self._one_row() if single else self._unnest() if self._is_postgresql else self._json_each()
        self.c = self.cte.c

    def of(self, sources: Iterable[Any]) -> Parameters:
        """The parameters for a row of each of these objects: its attributes, of the paths that the columns have."""
        return self.parameters(map(self._row, sources))

    def parameters(self, rows: Iterable[Sequence[object]]) -> Parameters:
        """The parameters for these rows, each a value for every column, in the order of the columns."""
        if not self._is_postgresql:
            bound = [
                [bind(value) if bind else value for bind, value in zip(self._binders, row, strict=True)] for row in rows
            ]
            return {self._name: json.dumps(bound, ensure_ascii=False)}
        columns = list(zip(*rows, strict=True))
        texts = [_text(value) for [value] in columns] if self._is_single else map(array_literal, columns)
        parameters: Parameters = dict(zip(self._parameters.values(), texts, strict=True))
        if self._owner_index is not None:
            parameters[OWNER] = columns[self._owner_index][0]
        return parameters

    def _one_row(self) -> CTE:
        values = {key: bindparam(name, type_=Text()) for key, name in self._parameters.items()}
        return select(*(cast(values[key], each).label(key) for key, each in self._types.items())).cte(self._name)

    def _unnest(self) -> CTE:
        literals = [bindparam(name, type_=Text()) for name in self._parameters.values()]
        arrays: list[ColumnElement[Any]] = [
            cast(literal, ARRAY(each)) for literal, each in zip(literals, self._types.values(), strict=True)
        ]
        if self._owner_index is None:  # else the planner expects one row anyway, and a router may refuse subqueries
            arrays = [select(array).scalar_subquery() for array in arrays]
        columns = [Column(key, each) for key, each in self._types.items()]
        rows: FromClause = func.unnest(*arrays).table_valued(*columns).render_derived(name=f"{self._name}_rows")
        return select(*rows.c).cte(self._name)

    def _json_each(self) -> CTE:
        rows = func.json_each(bindparam(self._name)).table_valued("value", name=f"{self._name}_rows")
        values = [
            func.json_extract(rows.c.value, literal_column(f"'$[{index}]'"), type_=each).label(key)
            for index, (key, each) in enumerate(self._types.items())
        ]
        return select(*values).cte(self._name)


def array_literal(values: Iterable[object]) -> str:
    """A PostgreSQL array of these values (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO)."""
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: object) -> str:
    if isinstance(value, str):
        if "\\" in value or '"' in value:
            value = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{value}"'
    return _text(value) or "NULL"


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(int(value))  # type: ignore[call-overload]
