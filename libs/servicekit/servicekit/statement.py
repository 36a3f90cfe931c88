"""SQL statements that are run again and again: built and compiled once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

Row = Sequence[Any]
Values = Mapping[str, Any]
_Compiled = tuple[str, Sequence[str], Mapping[str, Any]]
"""A statement as SQLite takes it, its values' names in order, and the values that it has of its own."""


class Rows(Protocol):
    """What a statement gave; SQLAlchemy's results are such, too."""

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows, each as a tuple in the order of the statement's columns."""

    def first(self) -> Row | None:
        """Return the first row, None when there is none."""

    def one(self) -> Row:
        """Return the only row."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""


class Statement:
    """A statement whose values are all given by name when it is run.

    SQLite gets it straight from here: SQLAlchemy's way to the driver costs several times what the statement
    does. Its transaction stays SQLAlchemy's, and its errors are SQLAlchemy's, without the values. Texts,
    whole numbers and bytes only: nothing is converted.
    """

    def __init__(self, clause: sa.Select[*tuple[Any, ...]] | sa.UpdateBase) -> None:
        self.clause = clause
        self._compiled: dict[frozenset[str], _Compiled] = {}

    def run(self, connection: Connection, values: Values | Sequence[Values]) -> Rows:
        """Run it, for every one of the values if there are several. One that is missing is an error."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self.clause, values)
        # What SQLAlchemy calls the driver's connection may be any driver's; with this dialect it is SQLite's.
        driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        each = [values] if isinstance(values, Mapping) else values
        text, wanted, own = self._text(connection, each[0])
        bound = [[row[name] if name in row else own[name] for name in wanted] for row in each]
        try:
            if isinstance(values, Mapping):
                return _Fetched(driver.execute(text, bound[0]))
            return _Fetched(driver.executemany(text, bound))
        except sqlite3.Error as error:
            raise DBAPIError.instance(
                text, None, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
            ) from error

    def _text(self, connection: Connection, values: Values) -> _Compiled:
        names = frozenset(values)
        known = self._compiled.get(names)
        if known is None:
            compiled: Any = self.clause.compile(dialect=connection.dialect, column_keys=sorted(names))
            own = {name: bind.effective_value for name, bind in compiled.binds.items() if not bind.required}
            known = str(compiled), compiled.positiontup, own
            self._compiled[names] = known
        return known


class _Fetched:
    """All rows of a cursor of SQLite's."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._rows: list[Row] = cursor.fetchall()
        self.rowcount = cursor.rowcount
        cursor.close()

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def first(self) -> Row | None:
        return self._rows[0] if self._rows else None

    def one(self) -> Row:
        (row,) = self._rows
        return row
