"""SQLite and PostgreSQL behind one call: a function run in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import sqlalchemy
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from llm_proxy.ledger.tables import metadata

T = TypeVar("T")

# Any number: replicas that start together create the tables one after another.
_CREATE_LOCK: Final = 7104


class Engine(Protocol):
    """A database. Transactions are run one at a time by its one user, and are durable on return."""

    async def transaction(self, work: Callable[[Connection], T], *, fsynced: bool) -> T:
        """Run `work` in a transaction, which is undone when it raises.

        `fsynced`: it has to survive a power cut. If not, it has to survive this process.
        """


class SqliteEngine:
    """A file, with one connection in a thread of its own.

    One hop to the thread for a whole transaction: hops are what a small one costs most. One connection per
    file, because libraries before 3.51.3 can corrupt a file's log that several of them reset.
    """

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._fsyncs = True

    async def transaction(self, work: Callable[[Connection], T], *, fsynced: bool) -> T:
        """See `Engine.transaction`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work, fsynced)

    def _run(self, work: Callable[[Connection], T], fsynced: bool) -> T:
        with self._engine.connect() as connection:
            if fsynced != self._fsyncs:
                # Between transactions only; it costs microseconds, and an fsync hundreds.
                driver: Any = connection.connection.driver_connection
                driver.execute(f"PRAGMA synchronous={'FULL' if fsynced else 'NORMAL'}")
                self._fsyncs = fsynced
            with connection.begin():
                return work(connection)

    def close(self) -> None:
        """Wait for the last transaction and close the file."""
        self._thread.shutdown()
        self._engine.dispose()


class PostgresqlEngine:
    """A server, that other replicas use as well."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def transaction(self, work: Callable[[Connection], T], *, fsynced: bool) -> T:
        """See `Engine.transaction`. The server decides about fsync, for each commit the same."""
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)


@asynccontextmanager
async def open_engine(url: str) -> AsyncIterator[Engine]:
    """Open the database while inside, with its tables made if they are missing."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        remote = create_async_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True)
        try:
            await PostgresqlEngine(remote).transaction(_create_locked, fsynced=True)
            yield PostgresqlEngine(remote)
        finally:
            await remote.dispose()
        return
    Path(parsed.database or "").parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(
        url, poolclass=sqlalchemy.StaticPool, connect_args={"check_same_thread": False}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    local = SqliteEngine(engine)
    try:
        await local.transaction(metadata.create_all, fsynced=True)
        yield local
    finally:
        await asyncio.to_thread(local.close)


def _create_locked(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _CREATE_LOCK})
    metadata.create_all(connection)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
