"""SQLite and PostgreSQL behind one queue of jobs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import sqlalchemy
import structlog
from servicekit.durable import make_private_folder
from servicekit.errors import Failure
from sqlalchemy import Connection, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from llm_proxy.ledger.jobs import (
    GROUP_LIMIT,
    IN_LOOP,
    Waiting,
    answer,
    failure_of,
    serve,
    serve_together,
    wanted,
)
from llm_proxy.ledger.migrations.upgrade import upgrade

T = TypeVar("T")

_log = structlog.get_logger("llm_proxy.ledger")

# What a power cut may take away: calls of so many seconds. An fsync costs as much as ten commits without.
_FLUSH_SECONDS: Final = 0.1
# Some 25 MB of log, which is then put into the file while calls wait.
_CHECKPOINT_JOBS: Final = 1000
# Another program may hold the file's lock, such as one that makes a copy.
_LOCK_MILLISECONDS: Final = 5000
_DEADLINE_SECONDS: Final = 10.0


class Engine(Protocol):
    """A database that does jobs, one at a time and in order."""

    def submit(self, waiting: Waiting) -> None:
        """Put a job into the queue. Its future gets the result when that is durable."""

    def queued(self) -> int:
        """Return how many jobs wait in the queue."""


class SqliteEngine:
    """A file, with one connection.

    Jobs that need no fsync take microseconds, and are done in the event loop, all that came in one of its
    rounds together: on a busy machine a hop to another thread costs a hundred times as much. All that may
    take longer, or fails there, is done in a thread, and what comes meanwhile waits for it. One connection
    per file, because libraries before 3.51.3 can corrupt a file's log that several of them reset.
    """

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self._engine = engine
        self._connection = engine.connect()
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "ledger")
        # Bounded by `Database`, which looks at its length before it asks for more.
        self._queue: deque[Waiting] = deque()
        self._woken = False
        self._busy = False
        """Whether the thread has the connection."""
        self._log = _SyncedLog(Path(f"{engine.url.database}-wal"))
        self._jobs_in_log = 0

    def submit(self, waiting: Waiting) -> None:
        """See `Engine.submit`."""
        self._queue.append(waiting)
        self._wake()

    def queued(self) -> int:
        """See `Engine.queued`."""
        return len(self._queue)

    async def close(self) -> None:
        """Wait until the queue is empty, and close the file."""
        last: asyncio.Future[None] = self._loop.create_future()
        self.submit(Waiting(lambda _: None, True, last))
        await last
        await self._log.close()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._thread.shutdown()
        self._connection.close()
        self._engine.dispose()

    def _wake(self) -> None:
        if not self._woken and not self._busy:
            self._woken = True
            self._loop.call_soon(self._round)

    def _round(self) -> None:
        """Do what waits: here if it is quick, else in the thread."""
        self._woken = False
        if self._busy:
            return
        if self._jobs_in_log >= _CHECKPOINT_JOBS:
            self._jobs_in_log = 0
            self._in_thread(self._checkpoint, lambda _: None)
            return
        group = wanted([self._queue.popleft() for _ in range(min(len(self._queue), GROUP_LIMIT))])
        self._jobs_in_log += len(group)
        results = self._quickly(group)
        if results is None:
            self._in_thread(partial(self._thoroughly, group), partial(answer, group))
            return
        answer(group, results)
        if self._queue:
            self._wake()

    def _quickly(self, group: list[Waiting]) -> list[Any] | None:
        """Do the jobs and return their results; None, with nothing done, when they are none for the loop."""
        if not group:
            return []
        if self._log.failed or any(waiting.fsynced for waiting in group):
            return None
        self._log.sync_soon()
        self._connection.info[IN_LOOP] = True
        try:
            return serve_together(self._connection, group)
        except Exception:  # noqa: BLE001 - a lock, a fault of one of them: the thread finds out, one by one
            return None
        finally:
            self._connection.info[IN_LOOP] = False

    def _thoroughly(self, group: list[Waiting]) -> list[Any]:
        driver = _driver(self._connection)
        try:
            driver.execute(f"PRAGMA busy_timeout={_LOCK_MILLISECONDS}")
            fsynced = self._log.failed or any(waiting.fsynced for waiting in group)
            driver.execute(f"PRAGMA synchronous={'FULL' if fsynced else 'NORMAL'}")
            results = serve(self._connection, group)
            if not any(isinstance(result, Failure) for result in results):
                self._log.failed = False
            _for_the_loop(driver)
        except sqlite3.Error as error:
            return [failure_of(error)] * len(group)
        return results

    def _in_thread(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        self._busy = True

        def done(future: asyncio.Future[T]) -> None:
            self._busy = False
            self._wake()
            then(future.result())

        self._loop.run_in_executor(self._thread, work).add_done_callback(done)

    def _checkpoint(self) -> None:
        # When it cannot be done, commits fail as well, and tell those who wait for them.
        with suppress(sqlite3.Error):
            _driver(self._connection).execute("PRAGMA wal_checkpoint(PASSIVE)")


class _SyncedLog:
    """SQLite's write-ahead log, fsynced beside the connection, which goes on meanwhile."""

    def __init__(self, path: Path) -> None:
        self.failed = False
        """Whether the disk refused. The next commits must ask it themselves, and tell their callers."""
        self._path = path
        self._file: int | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._syncing: asyncio.Future[None] | None = None

    def sync_soon(self) -> None:
        """Have what is committed by the end of this round survive a power cut, `_FLUSH_SECONDS` from now."""
        if self._timer is None:
            self._timer = self._loop.call_later(_FLUSH_SECONDS, self._start)

    async def close(self) -> None:
        """Wait for a sync under way."""
        if self._timer is not None:
            self._timer.cancel()
        if self._syncing is not None:
            await self._syncing
        if self._file is not None:
            os.close(self._file)

    def _start(self) -> None:
        self._timer = None
        if self._syncing is not None and not self._syncing.done():
            # The disk is slow; what came meanwhile goes with the next one.
            self.sync_soon()
            return
        self._syncing = self._loop.run_in_executor(None, self._sync)

    def _sync(self) -> None:
        try:
            if self._file is None:
                # It stays the same file while the connection is open.
                self._file = os.open(self._path, os.O_RDONLY)
                directory = os.open(self._path.parent, os.O_RDONLY)
                os.fsync(directory)
                os.close(directory)
            os.fdatasync(self._file)
        except OSError as error:
            # The system tells of it once only, and then takes what it did not write for written.
            self.failed = True
            _log.error("the ledger's log may not be on the disk", error=error.strerror)


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
    make_private_folder(Path(parsed.database or "").parent)
    engine = sqlalchemy.create_engine(
        url, poolclass=sqlalchemy.StaticPool, connect_args={"check_same_thread": False}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    await asyncio.to_thread(_upgrade_file, engine)
    local = SqliteEngine(engine)
    try:
        yield local
    finally:
        await local.close()


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _upgrade_file(engine: sqlalchemy.Engine) -> None:
    with engine.begin() as connection:
        _driver(connection).execute(f"PRAGMA busy_timeout={_LOCK_MILLISECONDS}")
        upgrade(connection)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    _for_the_loop(cursor)
    cursor.close()


def _for_the_loop(cursor: Any) -> None:
    """Have nothing wait: for no disk, for no lock, and for no cleaning up of the log."""
    for pragma in ("synchronous=NORMAL", "busy_timeout=0", "wal_autocheckpoint=0"):
        cursor.execute(f"PRAGMA {pragma}")
