"""The event log's one writer: what comes while a transaction is under way shares the next one.

Append, then publish: an event is sent to watchers when it is on the disk, and in the order of the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from session.events.append import Append, Batch
from session.events.bus import Bus, Topic
from session.refusals import LeaseLost
from session.storage.database import Database
from session.storage.statements import appends as statements
from session.storage.statements import permissions
from session.storage.transaction import Transaction

_log = structlog.get_logger("session.log")

# Appends that wait: a few for each turn that runs. One that finds it full waits, and so does its runner.
_WAITING: Final = 1024
# Appends in one transaction: what the database takes in some 20 ms, so that nobody waits long for others.
_TOGETHER: Final = 256
_MAX_PAUSE_SECONDS: Final = 2.0

Publish = Callable[[str, Sequence[event_pb2.Event]], None]
PublishDelta = Callable[[str, event_pb2.Event], None]


class Log:
    """Takes appends and commits them in groups. Run `write` as a task; put with `put`."""

    def __init__(self, database: Database, bus: Bus, publish: Publish, publish_delta: PublishDelta) -> None:
        self._database = database
        self._bus = bus
        self._publish = publish
        self._publish_delta = publish_delta
        self._queue: asyncio.Queue[Append] = asyncio.Queue(_WAITING)

    async def put(self, append: Append) -> None:
        """Queue an append; it is written after those put before. `append.done` tells how it went.

        `done` gives the numbered events once they are durable and published, or raises LeaseLost when the
        turn is not in the state and epoch that the append names, and then nothing is written.
        """
        # Whoever put it may be gone when it fails.
        append.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        await self._queue.put(append)

    async def append(self, append: Append) -> Sequence[event_pb2.Event]:
        """Put an append and wait until it is durable and published."""
        await self.put(append)
        return await append.written()

    async def write(self) -> None:
        """Write until cancelled."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < _TOGETHER and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._commit(batch)

    async def _commit(self, batch: list[Append]) -> None:
        pause = 0.05
        while True:
            try:
                written = await self._database.run(lambda tx: self._write(tx, batch))
            except Failure as failure:
                if failure.reason == errors_pb2.ERROR_REASON_INVALID_FIELD:
                    await self._isolate(batch, failure)
                    return
                # Nothing is lost by waiting: what is not acknowledged, runners send again.
                _log.warning("log_waits", reason=failure.reason_name)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _MAX_PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001 - one bad append must not stop the log
                _log.exception("log_failed", appends=len(batch))
                await self._isolate(batch, error)
                return
            else:
                break
        self._finish(written)

    async def _isolate(self, batch: list[Append], error: Exception) -> None:
        """Let the one append that cannot be written fail alone."""
        if len(batch) == 1:
            _settle(batch[0], error)
            return
        for append in batch:
            await self._commit([append])

    def _finish(self, written: Batch) -> None:
        for append in written.lost:
            _settle(append, LeaseLost())
        for append, numbered in written.numbered:
            self._publish(append.session_id, numbered)
            for piece in append.pieces:
                self._publish_delta(append.session_id, piece)
            if not append.done.done():
                append.done.set_result(numbered)

    async def _write(self, tx: Transaction, appends: list[Append]) -> Batch:
        last = await statements.lock_sessions(tx, {append.session_id for append in appends})
        held = await statements.lock_turns(tx, {append.turn_id for append in appends})
        # Only what an attempt before this one has numbered can be there already.
        again = [append for append in appends if append.events and append.events[-1].sequence]
        there = await statements.logged(tx, {append: append.events[-1] for append in again})
        batch = Batch(last, held, there)
        for append in appends:
            batch.add(append)
        await statements.insert_events(tx, batch.rows)
        await statements.update_sessions(tx, batch.sessions)
        await statements.update_turns(tx, batch.turns)
        if batch.permissions:
            await permissions.insert(tx, batch.permissions)
        await self._bus.tell(tx, Topic.EVENTS, *batch.sessions)
        if batch.ends:
            await self._bus.tell(tx, Topic.QUEUE)
        return batch


def _settle(append: Append, error: Exception) -> None:
    """Tell who waits that nothing was written."""
    if not append.done.done():
        append.done.set_exception(error)
