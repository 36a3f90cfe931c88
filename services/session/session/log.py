"""The event log's one writer: what comes while a transaction is under way shares the next one.

Append, then publish: an event is sent to watchers when it is on the disk, and in the order of the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import structlog
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure
from sqlalchemy.ext.asyncio import AsyncConnection

from session.bus import Bus, Topic
from session.database import Database
from session.refusals import LeaseLost
from session.store import claims, events, permissions
from session.tables import RUNNING

_log = structlog.get_logger("session.log")

# Appends that wait: a few for each turn that runs. One that finds it full waits, and so does its runner.
_WAITING: Final = 1024
# Appends in one transaction: what the database takes in some 20 ms, so that nobody waits long for others.
_TOGETHER: Final = 256
_MAX_PAUSE_SECONDS: Final = 2.0

Publish = Callable[[str, Sequence[event_pb2.Event]], None]


@dataclass(eq=False)
class Append:
    """Events of one turn, and the columns to change with them, all or nothing."""

    session_id: str
    turn_id: str
    epoch: int
    events: list[event_pb2.Event]
    index: int = 0
    """Index of the newest of the runner's items in it; 0 when they come from elsewhere."""
    state: int = RUNNING
    """The state that the turn must be in."""
    turn: dict[str, Any] = field(default_factory=dict)
    session: dict[str, Any] = field(default_factory=dict)
    permissions: list[dict[str, Any]] = field(default_factory=list)
    done: asyncio.Future[Sequence[event_pb2.Event]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class _Fenced(Exception):  # noqa: N818 - a signal inside this module
    """One append of the batch has lost its lease; nothing of the batch is written."""

    def __init__(self, append: Append) -> None:
        super().__init__()
        self.append = append


class Log:
    """Takes appends and commits them in groups. Run `write` as a task; put with `put`."""

    def __init__(self, database: Database, bus: Bus, publish: Publish) -> None:
        self._database = database
        self._bus = bus
        self._publish = publish
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
        return await append.done

    async def write(self) -> None:
        """Write until cancelled."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < _TOGETHER and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._commit(batch)

    async def _commit(self, batch: list[Append]) -> None:
        pause = 0.05
        while batch:
            try:
                written = await self._database.run(lambda tx: self._write(tx, batch))
            except _Fenced as fenced:
                batch.remove(fenced.append)
                await self._refuse(fenced.append)
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
                self._finish(batch, written)
                return

    async def _isolate(self, batch: list[Append], error: Exception) -> None:
        """Let the one append that cannot be written fail alone."""
        if len(batch) == 1:
            batch[0].done.set_exception(error)
            return
        for append in batch:
            await self._commit([append])

    async def _refuse(self, append: Append) -> None:
        """Answer an append that the fence stopped: it is late, or was written when a connection broke."""
        try:
            repeated = append.index > 0 and await self._database.run(
                lambda tx: claims.taken_in(tx, append.turn_id, append.epoch, append.index)
            )
        except Failure as failure:
            append.done.set_exception(failure)
            return
        if repeated:
            self._publish(append.session_id, ())
            append.done.set_result(())
        else:
            append.done.set_exception(LeaseLost())

    def _finish(self, batch: list[Append], written: dict[int, list[event_pb2.Event]]) -> None:
        for append in batch:
            self._publish(append.session_id, written[id(append)])
            if not append.done.done():
                append.done.set_result(written[id(append)])

    async def _write(self, tx: AsyncConnection, batch: list[Append]) -> dict[int, list[event_pb2.Event]]:
        written: dict[int, list[event_pb2.Event]] = {}
        # In the order of the locks; sorting is stable, so a turn's appends stay in order.
        ordered = sorted(batch, key=lambda append: (append.session_id, append.turn_id))
        for _, group in groupby(
            ordered, key=lambda append: (append.session_id, append.turn_id, append.epoch)
        ):
            await _write_turn(tx, list(group), written)
        await self._bus.tell(tx, Topic.EVENTS, *{append.session_id for append in batch})
        if any("state" in append.turn for append in batch):
            await self._bus.tell(tx, Topic.QUEUE)
        return written


async def _write_turn(
    tx: AsyncConnection, group: list[Append], written: dict[int, list[event_pb2.Event]]
) -> None:
    """Write appends of one turn and one epoch, or raise _Fenced."""
    session: dict[str, Any] = {}
    turn: dict[str, Any] = {}
    for append in group:
        session |= append.session
        turn |= append.turn
    items = [(append.turn_id, event) for append in group for event in append.events]
    index = max(append.index for append in group)
    first = group[0]
    numbered = await events.append(tx, first.session_id, items, **session)
    if numbered:
        turn["last_sequence"] = numbered[-1].sequence
    if index:
        turn["runner_index"] = index
    # The fence: it comes after the insert and undoes it, because a session is locked before its turns.
    if turn and not await claims.write(
        tx, first.turn_id, first.epoch, state=first.state, index=index, values=turn
    ):
        raise _Fenced(first)
    waiting = [row for append in group for row in append.permissions]
    if waiting:
        await permissions.insert(tx, waiting)
    for append in group:
        written[id(append)], numbered = numbered[: len(append.events)], numbered[len(append.events) :]
