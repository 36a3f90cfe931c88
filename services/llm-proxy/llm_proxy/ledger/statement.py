"""Statements that are run for every call: built and compiled once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.sql.dml import UpdateBase


class Statement:
    """A statement whose values are all given by name when it is run.

    SQLite gets it straight from here: SQLAlchemy's way to the driver costs several times what the statement
    does. Its transaction stays SQLAlchemy's.
    """

    def __init__(self, clause: UpdateBase) -> None:
        self._clause = clause
        self._text = ""
        self._names: tuple[str, ...] = ()

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Run it and return how many rows it changed."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self._clause, values).rowcount
        if not self._text:
            compiled: Any = self._clause.compile(dialect=connection.dialect)
            self._names = tuple(compiled.positiontup)
            self._text = str(compiled)
        driver: Any = connection.connection.driver_connection
        return int(driver.execute(self._text, [values[name] for name in self._names]).rowcount)
