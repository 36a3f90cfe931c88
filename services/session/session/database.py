"""The database behind a URL: transactions that a caller's going away does not tear, and typed failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from session import clock
from session.database_errors import Verdict, failure_of, verdict_on

Result = TypeVar("Result")
Work = Callable[[AsyncConnection], Awaitable[Result]]

# Deadlocks and lost connections go away by trying again; after this many tries they are told.
_ATTEMPTS: Final = 4
# Seconds to wait for a connection, and for one statement: a caller hears of a lost database within 5 s.
_CONNECT_SECONDS: Final = 3.0
_STATEMENT_SECONDS: Final = 4.0
# Transactions are short; more connections than this only queue inside PostgreSQL.
_POSTGRES_CONNECTIONS: Final = 8


class Database:
    """Runs transactions. `postgres` says which of the two databases it is."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.postgres: bool = engine.dialect.name == "postgresql"
        self._running: set[asyncio.Future[Any]] = set()

    async def run(self, work: Work[Result]) -> Result:
        """Run `work` in one transaction and return what it returned, committed.

        `work` may run several times; only the last run counts. A caller that is cancelled leaves the
        transaction to end by itself. Raises Failure DATABASE_UNAVAILABLE or DISK_FULL; what `work` raises
        rolls back and is raised.
        """
        task = asyncio.ensure_future(self._attempts(work))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Looked at here, because the caller may be gone.
            task.exception()

    async def _attempts(self, work: Work[Result]) -> Result:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self.engine.begin() as connection:
                    return await work(connection)
            except (DBAPIError, sa.exc.TimeoutError, OSError) as error:
                verdict = verdict_on(error)
                if verdict is Verdict.OURS:
                    raise
                if verdict is not Verdict.TRY_AGAIN or attempt == _ATTEMPTS:
                    raise failure_of(verdict) from error
                await asyncio.sleep(0.01 * attempt)
        raise AssertionError("the last attempt returns or raises")

    def lease_clock(self) -> sa.ColumnElement[int]:
        """Return the time as SQL: the database's own clock where several replicas share it."""
        if self.postgres:
            return sa.literal_column("(extract(epoch from clock_timestamp()) * 1000000)::bigint")
        return sa.literal(clock.now(), sa.BigInteger)

    async def settle(self) -> None:
        """Wait until every transaction under way has ended."""
        while self._running:
            await asyncio.wait(set(self._running))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Open the database at a SQLAlchemy URL (`sqlite+aiosqlite://` or `postgresql+asyncpg://`)."""
    engine = _engine(url)
    database = Database(engine)
    try:
        yield database
    finally:
        await database.settle()
        await engine.dispose()


def _engine(url: str) -> AsyncEngine:
    if sa.make_url(url).get_backend_name() == "postgresql":
        return create_async_engine(
            url,
            pool_size=_POSTGRES_CONNECTIONS,
            max_overflow=0,
            pool_timeout=_CONNECT_SECONDS,
            connect_args={"timeout": _CONNECT_SECONDS, "command_timeout": _STATEMENT_SECONDS},
        )
    # One connection for the file: this library's SQLite has a bug that can lose a WAL when two connections
    # reset it at once, and one writer is all that SQLite has anyway.
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=_STATEMENT_SECONDS)
    event.listen(engine.sync_engine, "connect", _configure_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        # An acknowledged commit is on the disk, not in the kernel's memory.
        "synchronous = FULL",
        "foreign_keys = ON",
        "busy_timeout = 4000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    # The driver would begin transactions late, and none around changes of the schema.
    connection.isolation_level = None


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
