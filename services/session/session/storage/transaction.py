"""What statements run on: a transaction of either database, with the same face."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, CursorResult, Dialect

Result = TypeVar("Result")
P = ParamSpec("P")


class Transaction(Protocol):
    """A transaction under way. Commits when the work that it was given to returns, else rolls back.

    The work may await nothing but what it calls here: on SQLite it runs in the database's own thread.
    """

    @property
    def dialect(self) -> Dialect:
        """Which database it is."""

    async def execute(
        self, statement: sa.Executable, parameters: Any = None, /
    ) -> CursorResult[*tuple[Any, ...]]:
        """Run a statement, for every row of parameters if there are several."""

    async def run_sync(
        self, fn: Callable[Concatenate[Connection, P], Result], *arg: P.args, **kw: P.kwargs
    ) -> Result:
        """Call `fn(connection, …)` with SQLAlchemy's own connection."""


class ThreadTransaction:
    """A transaction in the thread that it runs in: what is awaited here is done when it returns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def dialect(self) -> Dialect:
        """Which database it is."""
        return self._connection.dialect

    async def execute(
        self, statement: sa.Executable, parameters: Any = None, /
    ) -> CursorResult[*tuple[Any, ...]]:
        """Run a statement."""
        return self._connection.execute(statement, parameters)

    async def run_sync(
        self, fn: Callable[Concatenate[Connection, P], Result], *arg: P.args, **kw: P.kwargs
    ) -> Result:
        """Call a function."""
        return fn(self._connection, *arg, **kw)
