"""What statements run on: a transaction of either database, with the same face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from servicekit.statement import Rows, Statement, Values
from sqlalchemy.engine import Connection, CursorResult, Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

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

    async def run(self, statement: Statement, values: Values | Sequence[Values], /) -> Rows:
        """Run a statement that was built before, for every one of the values if there are several."""

    async def run_sync(
        self, fn: Callable[Concatenate[Connection, P], Result], *arg: P.args, **kw: P.kwargs
    ) -> Result:
        """Call `fn(connection, …)` with SQLAlchemy's own connection."""


class _OnConnection:
    """What both kinds have."""

    def __init__(self, connection: Connection | AsyncConnection) -> None:
        self._any = connection

    @property
    def dialect(self) -> Dialect:
        """Which database it is."""
        return self._any.dialect


class PoolTransaction(_OnConnection):
    """A transaction on a connection of a pool."""

    def __init__(self, connection: AsyncConnection) -> None:
        super().__init__(connection)
        self._connection = connection

    async def execute(
        self, statement: sa.Executable, parameters: Any = None, /
    ) -> CursorResult[*tuple[Any, ...]]:
        """See Transaction."""
        return await self._connection.execute(statement, parameters)

    async def run(self, statement: Statement, values: Values | Sequence[Values], /) -> Rows:
        """See Transaction."""
        return await self._connection.execute(statement.clause, values)

    async def run_sync(
        self, fn: Callable[Concatenate[Connection, P], Result], *arg: P.args, **kw: P.kwargs
    ) -> Result:
        """See Transaction."""
        return await self._connection.run_sync(fn, *arg, **kw)


class ThreadTransaction(_OnConnection):
    """A transaction in the thread that it runs in: what is awaited here is done when it returns."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._connection = connection

    async def execute(
        self, statement: sa.Executable, parameters: Any = None, /
    ) -> CursorResult[*tuple[Any, ...]]:
        """See Transaction."""
        return self._connection.execute(statement, parameters)

    async def run(self, statement: Statement, values: Values | Sequence[Values], /) -> Rows:
        """See Transaction."""
        return statement.run(self._connection, values)

    async def run_sync(
        self, fn: Callable[Concatenate[Connection, P], Result], *arg: P.args, **kw: P.kwargs
    ) -> Result:
        """See Transaction."""
        return fn(self._connection, *arg, **kw)
