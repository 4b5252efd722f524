"""Many rows as the parameters of one statement.

A list in SQL would give a different statement text for every length, each compiled, prepared and planned anew. With a
RowSet the text is the same for every batch size: PostgreSQL takes an array for each column (`unnest`), SQLite one JSON
text (`json_each`). An array is sent as the text of its literal. The driver would build the same text, value by value,
in several times the time. PostgreSQL cannot look into the text when it plans, and soon uses one generic plan.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import CTE, Column, Dialect, FromClause, Text, bindparam, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

Columns = Mapping[str, TypeEngine[Any]]
Parameters = dict[str, Any]


class RowSet:
    """Rows with typed columns, as a table to select from; `of` and `parameters` make the parameters of a statement.

    `columns` has a type for each path of an attribute, such as `draft.title`; the column has the last name of the path.
    """

    def __init__(self, dialect: Dialect, name: str, columns: Columns) -> None:
        self._name = name
        self._row = attrgetter(*columns)
        types = self._types = {path.rpartition(".")[2]: each for path, each in columns.items()}
        self._is_postgresql = dialect.name == "postgresql"
        self._binders = [each.dialect_impl(dialect).bind_processor(dialect) for each in types.values()]
        self.cte: CTE = self._unnest() if self._is_postgresql else self._json_each()
        self.c = self.cte.c

    def of(self, sources: Iterable[Any]) -> Parameters:
        """The parameters for a row of each of these objects: its attributes, of the paths that the columns have."""
        return self.parameters(map(self._row, sources))

    def parameters(self, rows: Iterable[Sequence[object]]) -> Parameters:
        """The parameters for these rows, each a value for every column, in the order of the columns."""
        if self._is_postgresql:
            columns = zip(*rows, strict=True)
            return {
                f"{self._name}_{key}": array_literal(values) for key, values in zip(self._types, columns, strict=True)
            }
        bound = [
            [bind(value) if bind else value for bind, value in zip(self._binders, row, strict=True)] for row in rows
        ]
        return {self._name: json.dumps(bound, ensure_ascii=False)}

    def _unnest(self) -> CTE:
        arrays = [
            cast(bindparam(f"{self._name}_{key}", type_=Text()), ARRAY(each)) for key, each in self._types.items()
        ]
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
    if value is None:
        return "NULL"
    if isinstance(value, str):
        if "\\" in value or '"' in value:
            value = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{value}"'
    return value.isoformat() if isinstance(value, datetime) else str(int(value))  # type: ignore[call-overload]
