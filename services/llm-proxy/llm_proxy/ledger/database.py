"""The ledger's database: what is asked for at the same time is committed together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from llm_proxy.ledger.engines import Engine, open_engine
from llm_proxy.ledger.jobs import Job, Waiting, unavailable

T = TypeVar("T")

# Callers in the queue. Each waits for its own job, so this bounds calls that are just beginning.
_QUEUE_LIMIT: Final = 4096
_DEADLINE_SECONDS: Final = 10.0


class Database:
    """Runs jobs one at a time, in order, those that wait together in one transaction.

    A job is a function of a connection. It may be called in another thread, and must be safe to call again:
    when its group fails, each is tried alone. A Failure that it raises reaches the caller, and what it did
    before is kept.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def queued(self) -> int:
        """Return how many jobs wait that were not begun."""
        return self._engine.queued()

    def check_room(self) -> None:
        """Raise Failure DATABASE_UNAVAILABLE when so many wait that `run` would take no more."""
        if self.queued() >= _QUEUE_LIMIT:
            raise unavailable()

    async def run(self, job: Job[T], *, fsynced: bool = True) -> T:
        """Do the job and return its result once that is durable. A caller who leaves in time withdraws it.

        With `fsynced` false, durable means that it outlives this process, and a power cut soon after. Raises
        Failure DATABASE_UNAVAILABLE, also at once when too many wait, or DISK_FULL.
        """
        self.check_room()
        return await _in_time(self._submit(job, fsynced))

    async def insist(self, job: Job[T]) -> T:
        """Do the job, not fsynced, also when the caller is cancelled or its deadline passes meanwhile.

        For what ends something that `run` began, of which there is no more than the queue takes.
        """
        done = self._submit(job, fsynced=False)
        done.add_done_callback(_seen)
        return await _in_time(asyncio.shield(done))

    def unattended(self, job: Job[None], failed: Callable[[], None]) -> None:
        """Do the job, after all that was asked for before, while nobody waits; call `failed` if it fails."""

        def done(future: asyncio.Future[None]) -> None:
            if future.cancelled() or future.exception() is not None:
                failed()

        self._submit(job, fsynced=False).add_done_callback(done)

    def _submit(self, job: Job[T], fsynced: bool) -> asyncio.Future[T]:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._engine.submit(Waiting(job, fsynced, done))
        return done


async def _in_time(done: asyncio.Future[T]) -> T:
    """Wait for a result, for `_DEADLINE_SECONDS` at most."""
    deadline = asyncio.get_running_loop().call_later(_DEADLINE_SECONDS, _give_up, done)
    try:
        return await done
    finally:
        deadline.cancel()


def _give_up(done: asyncio.Future[Any]) -> None:
    if not done.done():
        done.set_exception(unavailable())


def _seen(done: asyncio.Future[Any]) -> None:
    # Nobody may be left to look at the exception, which asyncio would complain of.
    if not done.cancelled():
        done.exception()


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """Open the database, with its schema brought to the newest version, and serve it while inside.

    What was asked for before the end is done before this returns.
    """
    async with open_engine(url) as engine:
        yield Database(engine)
