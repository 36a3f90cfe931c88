"""SQLite and PostgreSQL behind one queue of jobs."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol

import sqlalchemy
from sqlalchemy import Connection, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from llm_proxy.ledger.jobs import GROUP_LIMIT, Waiting, answer, failure_of, serve, wanted
from llm_proxy.ledger.migrations.upgrade import upgrade

# What a power cut may take away: calls of so many seconds. An fsync costs as much as ten commits without.
_FLUSH_SECONDS: Final = 0.1
_DEADLINE_SECONDS: Final = 10.0


class Engine(Protocol):
    """A database that does jobs, one at a time and in order."""

    def submit(self, waiting: Waiting) -> None:
        """Put a job into the queue. Its future gets the result when that is durable."""

    def queued(self) -> int:
        """Return how many jobs wait in the queue."""


class SqliteEngine:
    """A file, with one connection in a thread of its own, where groups of jobs are done from end to end.

    One connection per file, because libraries before 3.51.3 can corrupt a file's log that several of them
    reset. Commits that need no fsync of their own get one together, `_FLUSH_SECONDS` later at most.
    """

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="ledger")
        self._fsyncs = True
        self._unflushed_since: float | None = None
        self._thread.start()

    def submit(self, waiting: Waiting) -> None:
        """See `Engine.submit`."""
        self._queue.put(waiting)

    def queued(self) -> int:
        """See `Engine.queued`."""
        return self._queue.qsize()

    def close(self) -> None:
        """Wait until the queue is empty, and close the file."""
        self._queue.put(None)
        self._thread.join()
        self._engine.dispose()

    def _work(self) -> None:
        with self._engine.connect() as connection:
            open_ = True
            while open_:
                group, open_ = self._next_group(connection)
                asked = wanted(group)
                if asked:
                    self._choose_fsync(connection, any(waiting.fsynced for waiting in asked))
                    results = serve(connection, asked)
                    self._loop.call_soon_threadsafe(answer, asked, results)

    def _next_group(self, connection: Connection) -> tuple[list[Waiting], bool]:
        """Wait for jobs; flush meanwhile when it is time. The second part is false at the end."""
        group: list[Waiting] = []
        waiting = self._first(connection)
        while waiting is not None:
            group.append(waiting)
            if len(group) == GROUP_LIMIT:
                return group, True
            try:
                waiting = self._queue.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _first(self, connection: Connection) -> Waiting | None:
        while self._unflushed_since is not None:
            left = self._unflushed_since + _FLUSH_SECONDS - time.monotonic()
            if left <= 0:
                self._flush(connection)
                break
            try:
                return self._queue.get(timeout=left)
            except Empty:
                continue
        return self._queue.get()

    def _flush(self, connection: Connection) -> None:
        """Have all that was committed survive a power cut."""
        self._unflushed_since = None
        # When it cannot be done, commits fail as well, and tell those who wait for them.
        with suppress(sqlite3.Error):
            _driver(connection).execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _choose_fsync(self, connection: Connection, fsynced: bool) -> None:
        if not fsynced and self._unflushed_since is None:
            self._unflushed_since = time.monotonic()
        if fsynced != self._fsyncs:
            # Between transactions only; it costs microseconds, and an fsync hundreds.
            _driver(connection).execute(f"PRAGMA synchronous={'FULL' if fsynced else 'NORMAL'}")
            self._fsyncs = fsynced


class PostgresqlEngine:
    """A server, that other replicas use as well. It decides about fsync, for each commit the same."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # Bounded by `Database`, which looks at its length before it asks for more.
        self._queue: asyncio.Queue[Waiting | None] = asyncio.Queue()
        self._worker = asyncio.create_task(self._work())

    def submit(self, waiting: Waiting) -> None:
        """See `Engine.submit`."""
        self._queue.put_nowait(waiting)

    def queued(self) -> int:
        """See `Engine.queued`."""
        return self._queue.qsize()

    async def close(self) -> None:
        """Wait until the queue is empty, and hang up."""
        self._queue.put_nowait(None)
        await self._worker
        await self._engine.dispose()

    async def _work(self) -> None:
        while True:
            group = [await self._queue.get()]
            while len(group) < GROUP_LIMIT and not self._queue.empty():
                group.append(self._queue.get_nowait())
            asked = wanted([waiting for waiting in group if waiting is not None])
            if asked:
                answer(asked, await self._serve(asked))
            if group[-1] is None:
                return

    async def _serve(self, group: list[Waiting]) -> list[Any]:
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS), self._engine.connect() as connection:
                return await connection.run_sync(serve, group)
        except Exception as error:  # noqa: BLE001 - the work goes on when the server is back
            return [failure_of(error)] * len(group)


@asynccontextmanager
async def open_engine(url: str) -> AsyncIterator[Engine]:
    """Open the database while inside, with its schema brought to the newest version."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        remote = create_async_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True)
        async with remote.begin() as connection:
            await connection.run_sync(upgrade)
        server = PostgresqlEngine(remote)
        try:
            yield server
        finally:
            await server.close()
        return
    Path(parsed.database or "").parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(
        url, poolclass=sqlalchemy.StaticPool, connect_args={"check_same_thread": False}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    await asyncio.to_thread(_upgrade_file, engine)
    local = SqliteEngine(engine)
    try:
        yield local
    finally:
        # Its results are given out in this loop, which must not stand still meanwhile.
        await asyncio.to_thread(local.close)


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _upgrade_file(engine: sqlalchemy.Engine) -> None:
    with engine.begin() as connection:
        upgrade(connection)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
