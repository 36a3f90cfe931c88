"""The database behind a URL: transactions that a caller's going away does not tear, and typed failures."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from session import clock
from session.storage.database_errors import Verdict, failure_of, verdict_on
from session.storage.transaction import PoolTransaction, ThreadTransaction, Transaction

Result = TypeVar("Result")
Work = Callable[[Transaction], Awaitable[Result]]

# Deadlocks and lost connections go away by trying again; after this many tries they are told.
_ATTEMPTS: Final = 4
# Seconds to wait for a connection, and for one statement: a caller hears of a lost database within 5 s.
_CONNECT_SECONDS: Final = 3.0
_STATEMENT_SECONDS: Final = 4.0
# A replica that is frozen in the middle of a transaction loses it, and the locks with which it would keep
# others from taking its turns over.
_FROZEN_MILLISECONDS: Final = 3000
# Transactions are short; more connections than this only queue inside PostgreSQL.
_POSTGRES_CONNECTIONS: Final = 8


class Database(ABC):
    """Runs transactions. `postgres` says which of the two databases it is."""

    postgres: bool

    def __init__(self, url: sa.URL) -> None:
        self.url = url
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
                return await self._transaction(work)
            except (DBAPIError, sa.exc.TimeoutError, OSError) as error:
                verdict = verdict_on(error)
                if verdict is Verdict.OURS:
                    raise
                if verdict is not Verdict.TRY_AGAIN or attempt == _ATTEMPTS:
                    raise failure_of(verdict) from error
                await asyncio.sleep(0.01 * attempt)
        raise AssertionError("the last attempt returns or raises")

    @abstractmethod
    async def _transaction(self, work: Work[Result]) -> Result:
        """Run `work` once."""

    @abstractmethod
    def lease_clock(self) -> sa.ColumnElement[int] | int:
        """Return the time, or the SQL for it: the database's own clock where several replicas share it."""

    @abstractmethod
    async def _dispose(self) -> None:
        """Close all connections."""

    async def close(self) -> None:
        """Wait until every transaction under way has ended, and close all connections."""
        while self._running:
            await asyncio.wait(set(self._running))
        await self._dispose()


class Postgres(Database):
    """PostgreSQL, through a pool of connections."""

    postgres = True

    def __init__(self, url: sa.URL, statement_seconds: float | None) -> None:
        super().__init__(url)
        self._engine: AsyncEngine = create_async_engine(
            url,
            pool_size=_POSTGRES_CONNECTIONS,
            max_overflow=0,
            pool_timeout=_CONNECT_SECONDS,
            connect_args={
                "timeout": _CONNECT_SECONDS,
                "command_timeout": statement_seconds,
                "server_settings": {"idle_in_transaction_session_timeout": str(_FROZEN_MILLISECONDS)},
            },
        )

    async def _transaction(self, work: Work[Result]) -> Result:
        async with self._engine.begin() as connection:
            return await work(PoolTransaction(connection))

    def lease_clock(self) -> sa.ColumnElement[int]:
        """Return the server's time, which all replicas share."""
        return sa.literal_column("(extract(epoch from clock_timestamp()) * 1000000)::bigint")

    async def _dispose(self) -> None:
        await self._engine.dispose()


class Sqlite(Database):
    """A SQLite file, through one connection in one thread.

    One connection, because this library's SQLite has a bug that can lose a WAL when two connections reset it
    at once, and one writer is all that SQLite has anyway. A whole transaction runs in the thread at once:
    going there and back for each statement costs more than the statement.
    """

    postgres = False

    def __init__(self, url: sa.URL) -> None:
        super().__init__(url)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._engine = sa.create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        event.listen(self._engine, "connect", _configure_sqlite)
        event.listen(self._engine, "begin", _begin_sqlite)

    async def _transaction(self, work: Work[Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def _run(self, work: Work[Result]) -> Result:
        with self._engine.begin() as connection:
            # Nothing that the work awaits suspends it, so one step takes it to its end.
            steps = work(ThreadTransaction(connection))
            assert isinstance(steps, Coroutine)  # noqa: S101 - says what an `async def` returns
            try:
                steps.send(None)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            steps.close()
            raise RuntimeError("a transaction's work awaited something else than its statements")

    def lease_clock(self) -> int:
        """Return this process's time: there is no other process."""
        return clock.now()

    async def _dispose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()


@asynccontextmanager
async def opened(
    url: str, *, statement_seconds: float | None = _STATEMENT_SECONDS
) -> AsyncIterator[Database]:
    """Open the database at a SQLAlchemy URL (`sqlite://` or `postgresql+asyncpg://`).

    A statement may take `statement_seconds` on PostgreSQL; None for as long as it takes, as migrations want.
    """
    parsed = sa.make_url(url)
    postgres = parsed.get_backend_name() == "postgresql"
    database: Database = Postgres(parsed, statement_seconds) if postgres else Sqlite(parsed)
    try:
        yield database
    finally:
        await database.close()


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
