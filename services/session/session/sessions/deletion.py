"""Deleting sessions: gone for callers at once, and for good when their last turn has stopped."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import structlog
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from session import clock, names
from session.caller import Caller
from session.events.bus import Bus, Topic
from session.events.hub import Hub
from session.peers import Party, Runner
from session.sessions.cancel import cancel_queued
from session.sessions.snapshots import Snapshots
from session.sessions.templates import Templates
from session.storage.database import Database
from session.storage.rows import SessionRow, TurnRow
from session.storage.statements import accounts, purge, sessions, snapshots, turns
from session.storage.tables import RUNNING, Phase
from session.storage.transaction import Transaction

_log = structlog.get_logger("session.deletion")

# How long a caller waits for the last file to be gone; the rest happens without it.
_WAIT_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 5.0
_AT_ONCE: Final = 20


class Deletion:
    """Deletes sessions, and removes them and templates whose time has come."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        hub: Hub,
        runner: Runner,
        *,
        templates: Templates,
        snapshots_: Snapshots,
    ) -> None:
        self._database = database
        self._bus = bus
        self._hub = hub
        self._runner = runner
        self._templates = templates
        self._snapshots = snapshots_
        self._wake = asyncio.Event()
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        bus.on(Topic.QUEUE, lambda _ids: self._wake.set())
        bus.on(Topic.DELETED, self._deleted)

    def _deleted(self, session_ids: Sequence[str]) -> None:
        for session_id in session_ids:
            self._hub.end(session_id, _gone(session_id))
            for gone in self._waiting.pop(session_id, ()):
                gone.set()

    async def delete(self, caller: Caller, session_id: str) -> None:
        """Delete a session; return when it is gone, or certain to go. Failure SESSION_NOT_FOUND."""
        session = await self._database.run(lambda tx: sessions.get(tx, caller, session_id))
        gone = asyncio.Event()
        self._waiting[session_id].add(gone)
        try:
            logged, running = await self._database.run(lambda tx: self._mark(tx, caller, session))
            self._hub.publish(session_id, logged)
            self._bus.here(Topic.QUEUE)
            if running is not None:
                self._bus.here(Topic.CANCEL, running.id)
            async with asyncio.timeout(_WAIT_SECONDS):
                await gone.wait()
        except TimeoutError:
            _log.info("deletion_goes_on", session=names.session_name(session_id))
        finally:
            self._waiting[session_id].discard(gone)
            if not self._waiting[session_id]:
                del self._waiting[session_id]

    async def _mark(
        self, tx: Transaction, caller: Caller, session: SessionRow
    ) -> tuple[list[event_pb2.Event], TurnRow | None]:
        """Hide the session and cancel its turns; return what was logged, and the turn that runs."""
        await accounts.lock(tx, session.tenant, session.account)
        await sessions.lock(tx, caller, session.id)
        await sessions.update(tx, session.id, phase=Phase.DELETING)
        logged: list[event_pb2.Event] = []
        running = None
        for turn in await turns.active(tx, session.id):
            if turn.state == RUNNING:
                running = turn
                await turns.update(tx, turn, cancel_time=clock.now())
                await self._bus.tell(tx, Topic.CANCEL, turn.id)
            else:
                logged += await cancel_queued(tx, session, turn)
        await self._bus.tell(tx, Topic.EVENTS, session.id)
        await self._bus.tell(tx, Topic.QUEUE)
        return logged, running

    async def purge(self) -> None:
        """Remove what is deleted, until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._purge()
            except Failure as failure:
                _log.warning("purge_waits", reason=failure.reason_name)
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _purge(self) -> None:
        """Remove all that can be; one that cannot does not hold up the others."""
        await self._database.run(lambda tx: purge.expire(tx, clock.now()))
        after = ""
        while found := await self._ready(after):
            for session in found:
                await self._remove(session)
            after = found[-1].id
        await self._templates.remove_deleted()
        await self._snapshots.remove_unfinished()

    async def _ready(self, after: str) -> list[SessionRow]:
        return await self._database.run(lambda tx: purge.ready(tx, after, _AT_ONCE))

    async def _remove(self, session: SessionRow) -> None:
        """Remove the session's sandbox, workspace and snapshots, and then its rows."""
        party = Party(session.tenant, session.account, "pointsman", session.id)
        try:
            await self._runner.delete_sandbox(party, session.name)
            for snapshot_id in await self._database.run(lambda tx: snapshots.all_of(tx, session.id)):
                await self._runner.delete_snapshot(party, snapshot_id, session.id)
        except Failure as failure:
            _log.info("removal_waits", session=session.name, reason=failure.reason_name)
            return

        async def rows(tx: Transaction) -> None:
            await purge.remove(tx, session.id)
            await self._bus.tell(tx, Topic.DELETED, session.id)

        await self._database.run(rows)
        self._bus.here(Topic.DELETED, session.id)


def _gone(session_id: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_SESSION_DELETED, f"{names.session_name(session_id)} has been deleted."
    )
