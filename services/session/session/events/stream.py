"""One stream of events: from the log until it is read to its end, then from the hub, each exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from pointsman.session.v1 import event_pb2

from session import clock, names
from session.events.hub import Watcher
from session.storage.database import Database
from session.storage.statements import events

# Events read from the log at once: at most this many are held per stream that catches up.
_PAGE: Final = 200


class Stream:
    """A stream after `cursor`, without end; with a turn, of its own events, to its end.

    After `quiet` seconds without an event comes a `keep_alive`.
    """

    def __init__(
        self,
        database: Database,
        watcher: Watcher,
        session_id: str,
        *,
        cursor: int,
        turn_id: str,
        quiet: float,
    ) -> None:
        self._database = database
        self._watcher = watcher
        self._session_id = session_id
        self._cursor = cursor
        self._turn = names.turn_name(session_id, turn_id) if turn_id else ""
        self._quiet = quiet
        self._finished = False

    async def events(self) -> AsyncIterator[event_pb2.Event]:
        """Yield the events. Raises what ends the watcher, after what is pending."""
        while True:
            if self._watcher.behind:
                async for event in self._logged():
                    yield event
            for event in self._accepted(self._watcher.take()):
                yield event
            if self._finished:
                return
            if self._watcher.ended is not None and not self._watcher.behind:
                raise self._watcher.ended
            # It may have fallen behind while the log was read, and then nobody wakes it.
            if not self._watcher.behind and not await self._woken():
                yield _keep_alive()

    async def _logged(self) -> AsyncIterator[event_pb2.Event]:
        """Yield what the log has after the cursor; what is logged from now on is pending."""
        self._watcher.catch_up()
        more = True
        while more and not self._finished:
            page = await self._database.run(lambda tx: events.read(tx, self._session_id, self._cursor, _PAGE))
            more = len(page) == _PAGE
            for event in self._accepted(page):
                yield event
        self._watcher.go_live()

    def _accepted(self, read: list[event_pb2.Event]) -> list[event_pb2.Event]:
        """Return what the stream has not had yet and asked for."""
        fresh = []
        for event in read:
            if event.sequence:
                if event.sequence <= self._cursor:
                    continue
                self._cursor = event.sequence
            if self._turn and event.turn != self._turn:
                continue
            fresh.append(event)
            if self._turn and event.HasField("turn_finished"):
                self._finished = True
                break
        return fresh

    async def _woken(self) -> bool:
        """Wait for something to do; False when it stayed quiet."""
        try:
            async with asyncio.timeout(self._quiet):
                await self._watcher.wake.wait()
        except TimeoutError:
            return False
        return True


def _keep_alive() -> event_pb2.Event:
    return event_pb2.Event(create_time=clock.timestamp(clock.now()), keep_alive=event_pb2.KeepAlive())
