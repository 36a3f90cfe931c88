"""Workspaces as they were: what callers keep, and what each turn leaves so that it can be forked."""

from __future__ import annotations

import hashlib
from typing import Final

import structlog
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import workspace_service_pb2 as pb
from servicekit.errors import Failure
from servicekit.paging import Listing, size

from session import clock, names
from session.caller import Caller
from session.clock import timestamp
from session.events.bus import Bus, Topic
from session.peers import WORKSPACE_SECONDS, Party, Runner
from session.refusals import turn_running
from session.storage.database import Database
from session.storage.rows import SessionRow, TurnRow
from session.storage.statements import requests, sessions, snapshots, turns
from session.storage.statements.snapshots import SnapshotRow
from session.storage.tables import RUNNING
from session.storage.transaction import Transaction

_log = structlog.get_logger("session.snapshots")

HOLD: Final = int((WORKSPACE_SECONDS + 5) * 1_000_000)
"""No turn begins while a workspace is copied: a little longer than that may take, if we die meanwhile."""


class Snapshots:
    """Makes, lists and restores snapshots. `kept` is how many of those that turns leave a session keeps."""

    def __init__(self, database: Database, bus: Bus, runner: Runner, kept: int) -> None:
        self._database = database
        self._bus = bus
        self._runner = runner
        self._kept = kept

    async def create(self, caller: Caller, session_id: str, request_id: str, title: str) -> pb.Snapshot:
        """Keep the workspace as it is, or return the snapshot that this request made before."""
        body = hashlib.sha256(repr((session_id, title)).encode()).digest()
        fresh = names.new_id()

        async def begin(tx: Transaction) -> tuple[SessionRow, SnapshotRow]:
            session = await sessions.get(tx, caller, session_id)
            made = await requests.once(
                tx, caller.tenant, request_id, method="CreateSnapshot", body_hash=body, resource=fresh
            )
            if made == fresh:
                await snapshots.insert(tx, fresh, session_id, title)
            return session, await snapshots.get(tx, session_id, made)

        session, row = await self._database.run(begin)
        if not row.complete:
            party = Party(session.tenant, session.account, caller.principal, request_id)
            bytes_kept = await self._runner.create_snapshot(party, session.name, row.id)
            await self._database.run(lambda tx: snapshots.complete(tx, row.id, bytes_kept))
            row = await self._database.run(lambda tx: snapshots.get(tx, session_id, row.id))
        return _view(row)

    async def page(
        self, caller: Caller, session_id: str, page_size: int, page_token: str
    ) -> tuple[list[pb.Snapshot], str]:
        """Return a page of a session's snapshots, newest first, and the next page's token."""
        listing = Listing("snapshots", caller.tenant, session_id)
        after, limit = listing.key(page_token), size(page_size, 50)

        async def work(tx: Transaction) -> list[SnapshotRow]:
            await sessions.get(tx, caller, session_id)
            return await snapshots.page(tx, session_id, after, limit + 1)

        rows = await self._database.run(work)
        last = rows[limit - 1] if len(rows) > limit else None
        token = listing.token(last.create_time, last.id) if last is not None else ""
        return [_view(row) for row in rows[:limit]], token

    async def restore(self, caller: Caller, session_id: str, snapshot_id: str, request_id: str) -> None:
        """Make the workspace what it was. Failure TURN_RUNNING while a turn runs, SESSION_BUSY while another
        restores it.
        """

        async def hold(tx: Transaction) -> SessionRow:
            session = await sessions.lock(tx, caller, session_id)
            row = await snapshots.get(tx, session_id, snapshot_id)
            active = await turns.active(tx, session_id)
            if active and active[0].state == RUNNING:
                raise turn_running(session_id, active[0].id)
            if not row.complete or session.hold_until > clock.now():
                raise _busy()
            await sessions.update(tx, session_id, hold_until=clock.now() + HOLD, workspace_changed=1)
            return session

        session = await self._database.run(hold)
        party = Party(session.tenant, session.account, caller.principal, request_id)
        try:
            await self._runner.restore_snapshot(party, session.name, snapshot_id)
        finally:
            await self._release(session_id)

    async def _release(self, session_id: str) -> None:
        async def work(tx: Transaction) -> None:
            await sessions.update(tx, session_id, hold_until=0)
            await self._bus.tell(tx, Topic.QUEUE)

        await self._database.run(work)
        self._bus.here(Topic.QUEUE)

    async def left_by(self, turn: TurnRow) -> None:
        """Keep the workspace as a turn left it, under the hold that its end put on the session.

        A turn whose workspace cannot be kept cannot be forked; nothing else is wrong with it.
        """
        party = Party(turn.tenant, turn.account, turn.principal, turn.request_id)
        try:
            session = await self._database.run(lambda tx: sessions.any_phase(tx, turn.session_id))
            changes = session.workspace_changed
            await self._runner.create_snapshot(party, session.name, turn.id)
            await self._database.run(lambda tx: snapshots.leave(tx, turn, changes))
            await self._prune(turn.session_id, party)
        except Failure as failure:
            _log.warning("turn_not_kept", turn=turn.name, reason=failure.reason_name)
        finally:
            await self._release(turn.session_id)

    async def _prune(self, session_id: str, party: Party) -> None:
        """Remove the oldest of what turns left."""
        left = await self._database.run(lambda tx: snapshots.left_by_turns(tx, session_id))
        for snapshot_id in left[self._kept :]:
            await self._forget(session_id, snapshot_id)
            await self._runner.delete_snapshot(party, snapshot_id)

    async def _forget(self, session_id: str, snapshot_id: str) -> None:
        await self._database.run(lambda tx: snapshots.forget_left(tx, session_id, snapshot_id))


def _busy() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_SESSION_BUSY,
        "The session's workspace is being copied or restored right now. Try again in a moment.",
    )


def _view(row: SnapshotRow) -> pb.Snapshot:
    return pb.Snapshot(
        name=names.snapshot_name(row.session_id, row.id),
        title=row.title.decode(),
        create_time=timestamp(row.create_time),
        size_bytes=row.size_bytes,
    )
