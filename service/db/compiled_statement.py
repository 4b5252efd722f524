"""Statements of SQLAlchemy Core, compiled once and run by the driver.

Undocumented name used here and nowhere else: `SQLCompiler.bind_names`, the parameters of a compiled statement with
their types and constants. tests/layers/test_private_apis.py fails when it changes.

Running a batch takes the text of the statement and the driver. SQLAlchemy's own execution adds a connection, a result
and a row object to each run, which costs several times what the driver does.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.types import TypeEngine

Parameters = Mapping[str, Any]
Row = Sequence[Any]


class CompiledStatement:
    """The text of a statement, and the conversions of parameters and rows that the driver does not make itself.

    It is compiled when it is first used, which takes a few milliseconds: not all are used.
    """

    def __init__(self, statement: Any, dialect: Dialect) -> None:  # noqa: ANN401 - SQLAlchemy has no type for what compiles
        self._statement = statement
        self._dialect = dialect

    @cached_property
    def text(self) -> str:
        """The text, with parameters as the driver takes them."""
        return str(self._compiled)

    @cached_property
    def _compiled(self) -> Any:  # noqa: ANN401 - SQLAlchemy's type has no bind_names
        return self._statement.compile(dialect=self._dialect)

    @cached_property
    def _constants(self) -> Parameters:
        return {name: bind.value for bind, name in self._compiled.bind_names.items() if bind.value is not None}

    @cached_property
    def _binders(self) -> Sequence[tuple[str, Any]]:
        binders = ((name, _binder(bind.type, self._dialect)) for bind, name in self._compiled.bind_names.items())
        return [(name, bind) for name, bind in binders if bind]

    @cached_property
    def _readers(self) -> Sequence[tuple[int, Any]]:
        columns = getattr(self._statement, "exported_columns", ())
        readers = ((index, _reader(column.type, self._dialect)) for index, column in enumerate(columns))
        return [(index, read) for index, read in readers if read]

    def bound(self, parameters: Parameters) -> Parameters:
        """Convert parameters for the driver, and add the constants of the statement."""
        bound = {name: bind(parameters[name]) for name, bind in self._binders}
        return {**self._constants, **parameters, **bound}

    def read(self, rows: Iterable[Row]) -> Sequence[Row]:
        """Convert rows from the driver to the types of their columns."""
        return [self._read(row) for row in rows] if self._readers else tuple(rows)

    def _read(self, row: Row) -> Row:
        values = list(row)
        for index, read in self._readers:
            values[index] = read(values[index])
        return tuple(values)


def _binder(kind: TypeEngine[Any], dialect: Dialect) -> Any:  # noqa: ANN401 - a function or None
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _reader(kind: TypeEngine[Any], dialect: Dialect) -> Any:  # noqa: ANN401 - a function or None
    return kind.dialect_impl(dialect).result_processor(dialect, None)
