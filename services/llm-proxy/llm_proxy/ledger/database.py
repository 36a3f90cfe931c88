"""The ledger's database: what is asked for at the same time is committed together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import structlog
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from llm_proxy.ledger.engines import Engine, open_engine

T = TypeVar("T")
Job = Callable[[Connection], T]

_log = structlog.get_logger("llm_proxy.ledger")

# Callers in the queue. Each waits for its own job, so this bounds calls that are just beginning or ending.
_QUEUE_LIMIT: Final = 4096
# Jobs of one transaction: enough to make the disk's share small, few enough that none waits long.
_GROUP_LIMIT: Final = 128
_DEADLINE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class _Waiting:
    job: Job[Any]
    fsynced: bool
    done: asyncio.Future[Any]


class Database:
    """One connection, and one task that runs jobs on it in groups, each group in one durable transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(_QUEUE_LIMIT)

    async def run(self, job: Job[T], *, fsynced: bool = True) -> T:
        """Run the job in a transaction and return its result once that is durable.

        With `fsynced` false, durable means that it outlives this process, but maybe not a power cut.
        Jobs run one at a time, in order, maybe in a thread. A job must be safe to run again: when its group
        fails, each is tried alone. A Failure that it raises reaches the caller, and what it did before is
        kept. Raises Failure DATABASE_UNAVAILABLE or DISK_FULL.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await self._queue.put(_Waiting(job, fsynced, done))
                return await done
        except TimeoutError:
            raise _unavailable() from None

    async def work(self) -> None:
        """Serve the queue until cancelled."""
        while True:
            group = [await self._queue.get()]
            while len(group) < _GROUP_LIMIT and not self._queue.empty():
                group.append(self._queue.get_nowait())
            # Nobody waits any more for a job whose caller gave up, so it must not take effect.
            wanted = [waiting for waiting in group if not waiting.done.done()]
            if wanted:
                await self._serve(wanted)

    async def _serve(self, group: list[_Waiting]) -> None:
        jobs = [waiting.job for waiting in group]
        fsynced = any(waiting.fsynced for waiting in group)
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                results = await self._engine.transaction(partial(_run_all, jobs), fsynced=fsynced)
        except Exception as error:  # noqa: BLE001 - one job's fault must not end the work for all others
            if len(group) > 1:
                for waiting in group:
                    await self._serve([waiting])
                return
            _answer(group[0].done, _failure(error))
            return
        for waiting, result in zip(group, results, strict=True):
            _answer(waiting.done, result)


def _run_all(jobs: Sequence[Job[Any]], connection: Connection) -> list[Any]:
    """Run the jobs; what one of them refuses concerns its caller alone, not the others of its group."""
    results: list[Any] = []
    for job in jobs:
        try:
            results.append(job(connection))
        except Failure as failure:
            results.append(failure)
    return results


def _answer(done: asyncio.Future[Any], result: Any) -> None:
    if done.done():
        return
    if isinstance(result, Failure):
        done.set_exception(result)
    else:
        done.set_result(result)


def _failure(error: Exception) -> Failure:
    if not isinstance(error, (SQLAlchemyError, OSError, TimeoutError)):
        _log.error("fault in the ledger", kind=type(error).__name__)
        return Failure(errors_pb2.ERROR_REASON_INTERNAL, "The ledger could not write this call down.")
    if isinstance(error, DBAPIError) and "disk is full" in str(error.orig):
        return Failure(
            errors_pb2.ERROR_REASON_DISK_FULL,
            "The disk that holds the ledger is full, so no call to a model can be paid for. Free some space.",
        )
    return _unavailable()


def _unavailable() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE,
        "The ledger's database does not answer, so no call to a model can be paid for. Try again.",
    )


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """Open the database, with its tables made if they are missing, and serve it while inside."""
    async with open_engine(url) as engine:
        database = Database(engine)
        worker = asyncio.create_task(database.work())
        try:
            yield database
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
