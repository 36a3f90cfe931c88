"""Workspaces as they were: what callers keep, and what each turn leaves so that it can be forked."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
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
from session.peers import Party, Runner
from session.refusals import session_busy, turn_running
from session.sessions.snapshot_limits import SnapshotLimits
from session.storage.database import Database
from session.storage.rows import SessionRow, TurnRow
from session.storage.statements import requests, sessions, snapshots, turns
from session.storage.statements.snapshots import SnapshotRow
from session.storage.tables import RUNNING
from session.storage.transaction import Transaction

_log = structlog.get_logger("session.snapshots")

HOLD: Final = 35_000_000
"""No turn begins while a workspace is copied. Renewed until then; turns wait so long for us if we die."""
_RENEW_SECONDS: Final = HOLD / 1_000_000 / 3
# One that was begun and never finished is removed after this time: longer than a call may take.
_UNFINISHED: Final = timedelta(hours=1)
_AT_ONCE: Final = 20


class Snapshots:
    """Makes, lists, restores and deletes snapshots.

    `kept` is how many of those that turns leave a session keeps, `limits` what those of callers may come to.
    """

    def __init__(
        self, database: Database, bus: Bus, runner: Runner, *, kept: int, limits: SnapshotLimits
    ) -> None:
        self._database = database
        self._bus = bus
        self._runner = runner
        self._kept = kept
        self._limits = limits

    async def create(self, caller: Caller, session_id: str, request_id: str, title: str) -> pb.Snapshot:
        """Keep the workspace as it is, or return the snapshot that this request made before.

        Failure SESSION_NOT_FOUND, SNAPSHOT_LIMIT, SNAPSHOT_NOT_FOUND when what the request made was deleted.
        """
        body = hashlib.sha256(repr((session_id, title)).encode()).digest()
        fresh = names.new_id()

        async def begin(tx: Transaction) -> tuple[SessionRow, SnapshotRow, int]:
            session = await sessions.get(tx, caller, session_id)
            made = await requests.once(
                tx,
                caller.tenant,
                session.account,
                request_id,
                method="CreateSnapshot",
                body_hash=body,
                resource=fresh,
            )
            if made == fresh:
                await snapshots.insert(tx, fresh, session_id, title)
            row = await snapshots.get(tx, session_id, made)
            # One that is not finished may be tried again, and only then needs room.
            return (
                session,
                row,
                0 if row.complete else await self._limits.room(tx, session.tenant, session_id),
            )

        session, row, room = await self._database.run(begin)
        if not row.complete:
            party = Party(session.tenant, session.account, caller.principal, request_id)
            await self._fill(party, session, row.id, room)
            row = await self._database.run(lambda tx: snapshots.get(tx, session_id, row.id))
        return _view(row)

    async def _fill(self, party: Party, session: SessionRow, snapshot_id: str, room: int) -> None:
        """Have the runner keep the workspace; what does not fit after all, or was deleted, is not kept."""
        size = await self._runner.create_snapshot(
            party,
            session.name,
            snapshot_id,
            owned=True,
            max_bytes=room,
            workspace_made=bool(session.workspace_made),
        )

        async def complete(tx: Transaction) -> None:
            # Under the lock: the same request may be under way twice, and its snapshot may be deleted.
            await snapshots.lock_tenant(tx, session.tenant)
            if not (await snapshots.get(tx, session.id, snapshot_id)).complete:
                await self._limits.take(tx, session.tenant, session.id, size)
                await snapshots.complete(tx, snapshot_id, size)

        try:
            await self._database.run(complete)
        except Failure:
            await self._runner.delete_snapshot(party, snapshot_id, session.id)
            raise

    async def delete(self, caller: Caller, session_id: str, snapshot_id: str, request_id: str) -> None:
        """Delete a snapshot. Failure SNAPSHOT_NOT_FOUND.

        When it is not listed any more and the runner cannot be reached, the file goes with the session.
        """

        async def work(tx: Transaction) -> SessionRow:
            session = await sessions.get(tx, caller, session_id)
            await snapshots.delete(tx, session_id, snapshot_id)
            return session

        session = await self._database.run(work)
        party = Party(session.tenant, session.account, caller.principal, request_id)
        await self._delete_file(party, session_id, snapshot_id)

    async def _delete_file(self, party: Party, session_id: str, snapshot_id: str) -> None:
        """Delete what the runner keeps; when it cannot be reached, that is done with the session."""
        try:
            await self._runner.delete_snapshot(party, snapshot_id, session_id)
        except Failure as failure:
            _log.warning("snapshot_not_deleted", snapshot=snapshot_id, reason=failure.reason_name)

    async def remove_unfinished(self) -> None:
        """Remove what calls began that were cut off, and that nobody tried again."""
        before = clock.now() - clock.micros(_UNFINISHED)
        for row in await self._database.run(lambda tx: snapshots.unfinished(tx, before, _AT_ONCE)):
            await self._runner.delete_snapshot(
                Party(row.tenant, row.account, "pointsman", row.id), row.id, row.session_id
            )
            await self._database.run(functools.partial(_remove, row.session_id, row.id))

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
                raise session_busy()
            await sessions.update(tx, session_id, hold_until=clock.now() + HOLD, workspace_changed=1)
            return session

        session = await self._database.run(hold)
        party = Party(session.tenant, session.account, caller.principal, request_id)
        async with self._held(session_id):
            await self._runner.restore_snapshot(party, session.name, snapshot_id)
            await self._database.run(lambda tx: sessions.update(tx, session_id, workspace_made=1))

    @asynccontextmanager
    async def _held(self, session_id: str) -> AsyncIterator[None]:
        """Keep a session that is held from starting turns for as long as this is entered, and not longer."""
        over = asyncio.Event()
        renewing = asyncio.create_task(self._renew(session_id, over), name="hold")
        try:
            yield
        finally:
            over.set()
            # Not cancelled: a renewal that is under way would come after the release.
            await asyncio.wait({renewing})
            await self._release(session_id)

    async def _renew(self, session_id: str, over: asyncio.Event) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_RENEW_SECONDS):
                    await over.wait()
            if over.is_set():
                return
            with suppress(Failure):
                # While the database cannot be reached no turn starts either.
                await self._database.run(
                    lambda tx: sessions.update(tx, session_id, hold_until=clock.now() + HOLD)
                )

    async def _release(self, session_id: str) -> None:
        async def work(tx: Transaction) -> None:
            await sessions.update(tx, session_id, hold_until=0)
            await self._bus.tell(tx, Topic.QUEUE)

        await self._database.run(work)
        self._bus.here(Topic.QUEUE)

    async def for_fork(self, caller: Caller, session_id: str, turn_id: str, request_id: str) -> str:
        """Keep the workspace as it is now for a fork of the newest turn; return the snapshot's id.

        A job that a turn left running may have written since, and so may the caller. '' when the fork is of
        an earlier turn, of a session that runs a turn, or of one without a workspace, or whose workspace was
        lost: then what the turn left is all there is. The snapshot is the caller's to drop with `forked`; if
        it is not, it goes with those that were never finished.
        """
        fresh = names.new_id()

        async def begin(tx: Transaction) -> SessionRow | None:
            session = await sessions.lock(tx, caller, session_id)
            active = await turns.active(tx, session_id)
            running = active and active[0].state == RUNNING
            newest = await turns.newest_over(tx, session_id)
            of_now = newest is not None and turn_id in ("", newest.id)
            if running or not of_now or not session.workspace_made or session.hold_until > clock.now():
                return None
            await snapshots.insert(tx, fresh, session_id, "")
            await sessions.update(tx, session_id, hold_until=clock.now() + HOLD)
            return session

        session = await self._database.run(begin)
        if session is None:
            return ""
        party = Party(session.tenant, session.account, caller.principal, request_id)
        async with self._held(session_id):
            try:
                await self._runner.create_snapshot(
                    party, session.name, fresh, owned=True, workspace_made=True
                )
            except Failure as failure:
                await self.forked(caller, session_id, fresh, request_id)
                if failure.reason == errors_pb2.ERROR_REASON_WORKSPACE_MISSING:
                    return ""
                raise
        return fresh

    async def forked(self, caller: Caller, session_id: str, snapshot_id: str, request_id: str) -> None:
        """Drop what `for_fork` kept. Never fails: what stays goes with those that were never finished."""
        with suppress(Failure):
            await self.delete(caller, session_id, snapshot_id, request_id)

    async def left_by(self, turn: TurnRow) -> None:
        """Keep the workspace as a turn left it, under the hold that its end put on the session.

        A turn whose workspace cannot be kept cannot be forked; nothing else is wrong with it.
        """
        party = Party(turn.tenant, turn.account, turn.principal, turn.request_id)
        async with self._held(turn.session_id):
            try:
                session = await self._database.run(lambda tx: sessions.any_phase(tx, turn.session_id))
                changes = session.workspace_changed
                await self._runner.create_snapshot(
                    party, session.name, turn.id, owned=True, workspace_made=bool(session.workspace_made)
                )
                await self._database.run(lambda tx: snapshots.leave(tx, turn, changes))
                await self._prune(turn.session_id, party)
            except Failure as failure:
                _log.warning("turn_not_kept", turn=turn.name, reason=failure.reason_name)
                # The runner may have made it all the same, and then only its answer is lost.
                await self._drop_left(party, turn)

    async def _drop_left(self, party: Party, turn: TurnRow) -> None:
        with suppress(Failure):
            now = await self._database.run(lambda tx: turns.get(tx, turn.session_id, turn.id))
            if not now.snapshot_id:
                await self._delete_file(party, turn.session_id, turn.id)

    async def _prune(self, session_id: str, party: Party) -> None:
        """Remove the oldest of what turns left."""
        left = await self._database.run(lambda tx: snapshots.left_by_turns(tx, session_id))
        for snapshot_id in left[self._kept :]:
            await self._forget(session_id, snapshot_id)
            await self._runner.delete_snapshot(party, snapshot_id, session_id)

    async def _forget(self, session_id: str, snapshot_id: str) -> None:
        await self._database.run(lambda tx: snapshots.forget_left(tx, session_id, snapshot_id))


async def _remove(session_id: str, snapshot_id: str, tx: Transaction) -> None:
    with suppress(Failure):
        # A caller may have deleted it meanwhile.
        await snapshots.delete(tx, session_id, snapshot_id)


def _view(row: SnapshotRow) -> pb.Snapshot:
    return pb.Snapshot(
        name=names.snapshot_name(row.session_id, row.id),
        title=row.title.decode(),
        create_time=timestamp(row.create_time),
        size_bytes=row.size_bytes,
    )
