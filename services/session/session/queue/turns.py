"""Turns and events as callers read them, and the changes that callers make to turns."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.paging import Listing, fitting, size

from session import clock
from session.caller import Caller
from session.events.bus import Bus, Topic
from session.events.hub import Hub
from session.events.watch import check_cursor
from session.queue.positions import Positions
from session.sessions.cancel import cancel_queued
from session.storage.database import Database
from session.storage.rows import TurnRow
from session.storage.statements import accounts, events, sessions, turns
from session.storage.tables import QUEUED
from session.storage.transaction import Transaction
from session.views import turn_view


class Turns:
    """Reads and cancels turns."""

    def __init__(self, database: Database, bus: Bus, hub: Hub, positions: Positions) -> None:
        self._database = database
        self._bus = bus
        self._hub = hub
        self._positions = positions

    async def get(self, caller: Caller, session_id: str, turn_id: str) -> turn_pb2.Turn:
        """Return a turn; Failure SESSION_NOT_FOUND or TURN_NOT_FOUND."""

        async def work(tx: Transaction) -> turn_pb2.Turn:
            await sessions.get(tx, caller, session_id)
            turn = await turns.get(tx, session_id, turn_id)
            return turn_view(turn, (await turns.positions(tx, [turn])).get(turn.id, 0))

        return await self._database.run(work)

    async def page(
        self, caller: Caller, session_id: str, states: Sequence[int], page_size: int, page_token: str
    ) -> tuple[list[turn_pb2.Turn], str]:
        """Return a page of a session's turns, oldest first, and the next page's token."""
        listing = Listing("turns", caller.tenant, session_id, sorted(states))
        after, limit = listing.key(page_token), size(page_size, 50)

        async def work(tx: Transaction) -> tuple[list[TurnRow], dict[str, int]]:
            await sessions.get(tx, caller, session_id)
            rows = await turns.page(tx, session_id, states, after, limit + 1)
            return rows, await turns.positions(tx, rows)

        rows, places = await self._database.run(work)
        views = fitting([turn_view(row, places.get(row.id, 0)) for row in rows], limit)
        last = rows[len(views) - 1] if len(rows) > len(views) else None
        return views, listing.token(last.create_time, last.id) if last is not None else ""

    async def events(
        self, caller: Caller, session_id: str, after: int, page_size: int, page_token: str
    ) -> tuple[list[event_pb2.Event], str]:
        """Return a page of a session's events, oldest first, and the next page's token.

        Raises Failure CURSOR_AHEAD or CURSOR_EXPIRED.
        """
        listing = Listing("events", caller.tenant, session_id)
        key, limit = listing.key(page_token), size(page_size, 200)

        async def work(tx: Transaction) -> list[event_pb2.Event]:
            session = await sessions.get(tx, caller, session_id)
            cursor = check_cursor(session, after if key is None else key[0])
            return await events.read(tx, session_id, cursor, limit + 1)

        read = await self._database.run(work)
        page = fitting(read, limit)
        return page, listing.token(page[-1].sequence) if len(read) > len(page) else ""

    async def cancel(self, caller: Caller, session_id: str, turn_id: str) -> turn_pb2.Turn:
        """End a turn that waits, or ask one that runs to stop. One that is over stays as it is."""
        logged, asked, turn = await self._database.run(
            lambda tx: self._cancel(tx, caller, session_id, turn_id)
        )
        self._hub.publish(session_id, logged)
        if logged:
            await self._positions.tell(turn.tenant, turn.account)
            self._bus.here(Topic.QUEUE)
        if asked:
            self._bus.here(Topic.CANCEL, turn_id)
        return turn_view(turn)

    async def _cancel(
        self, tx: Transaction, caller: Caller, session_id: str, turn_id: str
    ) -> tuple[Sequence[event_pb2.Event], bool, TurnRow]:
        """Return the events that were logged, whether the owner must be asked, and the turn after it."""
        session = await sessions.get(tx, caller, session_id)
        # Under the account's lock no turn of it begins to run meanwhile.
        await accounts.lock(tx, session.tenant, session.account)
        await sessions.lock(tx, caller, session_id)
        turn = await turns.get(tx, session_id, turn_id)
        if turn.over:
            return (), False, turn
        if turn.state == QUEUED:
            logged = await cancel_queued(tx, session, turn)
            await self._bus.tell(tx, Topic.EVENTS, session_id)
            await self._bus.tell(tx, Topic.QUEUE)
            return logged, False, await turns.get(tx, session_id, turn_id)
        if not turn.cancel_time:
            await turns.update(tx, turn, cancel_time=clock.now())
        await self._bus.tell(tx, Topic.CANCEL, turn_id)
        return (), True, await turns.get(tx, session_id, turn_id)
