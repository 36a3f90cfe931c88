"""Claiming turns for this replica, and taking over those that others have left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from pointsman.session.v1 import event_pb2, turn_pb2
from sqlalchemy.exc import IntegrityError

from session import clock
from session.events import bus
from session.events.bus import Bus, Topic
from session.queue.fairness import rotation
from session.sessions import history
from session.storage.database import Database
from session.storage.rows import SessionRow, TurnRow
from session.storage.statements import accounts, claims, events, sessions, turns
from session.storage.statements.accounts import AccountRow
from session.storage.tables import IS_RUNNING
from session.storage.transaction import Transaction

# Turns taken over in one transaction; the rest follows at once.
_TAKEN_AT_ONCE: Final = 50


@dataclass
class Lease:
    """The epoch that a turn is owned under; its owner moves it on when it starts the turn again."""

    epoch: int


@dataclass(frozen=True)
class Claim:
    """A turn that is this replica's, as it was when it became so."""

    turn: TurnRow
    session: SessionRow
    recovered: bool
    """Whether it ran before, under another owner."""
    earlier: Sequence[TurnRow] | None = None
    """What an agent is to be told of turns before it, newest first; None where nobody has looked yet."""
    events: Sequence[event_pb2.Event] = ()
    """What was logged with the claim."""
    lease: Lease = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lease", Lease(self.turn.epoch))


class Claims:
    """Claims and leases of one replica, `bus.replica`."""

    def __init__(self, database: Database, bus: Bus, lease: timedelta, account_limit: int) -> None:
        self._database = database
        self._bus = bus
        self._lease = clock.micros(lease)
        self._account_limit = account_limit

    async def chosen(self, places: int) -> list[tuple[str, str]]:
        """Return the accounts that are to be served next, at most one for each free place."""
        loads = await self._database.run(accounts.loads)
        return rotation(loads, places, self._account_limit)

    def room(self, account: AccountRow | None, active: int) -> bool:
        """Say whether an account (None: one that was never used) may run more than so many turns."""
        return active < ((account and account.max_concurrent_turns) or self._account_limit)

    async def insert(self, tx: Transaction, session: SessionRow, **columns: Any) -> Claim:
        """Write a new turn of a session that runs none, which runs, and is this replica's."""
        expires = self._database.lease_clock() + self._lease
        columns["start_time"] = columns["create_time"]
        turn = await claims.insert(tx, self._bus.replica, expires, **columns)
        return Claim(turn, session, recovered=False, earlier=await earlier(tx, turn))

    async def claim(self, tenant: str, account: str) -> Claim | None:
        """Claim an account's next turn; None when it has none that may run now."""
        try:
            return await self._database.run(lambda tx: self._claim(tx, tenant, account))
        except (IntegrityError, _Gone):
            # Somebody was faster: the session runs a turn already, or this one does not wait any more.
            return None

    async def _claim(self, tx: Transaction, tenant: str, account: str) -> Claim | None:
        row = await accounts.lock_if_free(tx, tenant, account)
        if row is None:
            return None
        running = await accounts.count(tx, tenant, account, IS_RUNNING)
        if not self.room(row, running):
            return None
        time = clock.now()
        turn = await claims.next_of_account(tx, tenant, account, time)
        if turn is None:
            return None
        route = turn_pb2.TurnRoute.ValueType(turn.route)
        event = started(turn.model, route, waited=max(time - turn.create_time, 0))
        logged = await events.append(tx, turn.session_id, [(turn.id, event)])
        expires = self._database.lease_clock() + self._lease
        changes = {"start_time": time, "last_sequence": logged[-1].sequence}
        mine = await claims.claim(tx, turn, self._bus.replica, expires, **changes)
        if mine is None:
            raise _Gone
        await accounts.update(tx, tenant, account, last_claim_time=time)
        await self._bus.tell(tx, Topic.EVENTS, turn.session_id)
        session = await sessions.any_phase(tx, turn.session_id)
        return Claim(mine, session, recovered=False, earlier=await earlier(tx, mine), events=logged)

    async def renew(self) -> dict[str, tuple[int, int]]:
        """Extend this replica's leases; return epoch and time of cancelling by turn."""
        expires = self._database.lease_clock() + self._lease
        return await self._database.run(lambda tx: claims.renew(tx, self._bus.replica, expires))

    async def release(self) -> None:
        """Give all turns back, so that another replica need not wait for the leases to expire."""
        await self._database.run(lambda tx: claims.release(tx, self._bus.replica))

    async def take_over(self, *, everything: bool = False) -> list[Claim]:
        """Take over turns whose owner is gone; with `everything`, all but our own, for the only process."""
        return await self._database.run(lambda tx: self._take_over(tx, everything))

    async def _take_over(self, tx: Transaction, everything: bool) -> list[Claim]:
        others = [owner for owner in await claims.owners(tx) if owner != self._bus.replica]
        dead = others
        if not everything:
            dead = await bus.dead(tx, others) if self._database.postgres else []
        now = self._database.lease_clock()
        taken = []
        for turn in await claims.abandoned(tx, self._bus.replica, now, dead, _TAKEN_AT_ONCE):
            expires = now + self._lease
            mine = await claims.take_over(tx, turn, self._bus.replica, expires)
            if mine is not None:
                session = await sessions.any_phase(tx, mine.session_id)
                taken.append(Claim(mine, session, recovered=True))
        return taken

    async def adopt(self, turn_id: str) -> Claim | None:
        """Take a running turn of this replica under a new epoch; None when it is not its any more."""
        return await self._database.run(lambda tx: self._adopt(tx, turn_id))

    async def _adopt(self, tx: Transaction, turn_id: str) -> Claim | None:
        turn = await claims.owned(tx, turn_id)
        if turn.lease_owner != self._bus.replica or turn.over:
            return None
        expires = self._database.lease_clock() + self._lease
        mine = await claims.take_over(tx, turn, self._bus.replica, expires)
        if mine is None:
            return None
        return Claim(mine, await sessions.any_phase(tx, mine.session_id), recovered=True)


def started(model: str, route: turn_pb2.TurnRoute.ValueType, *, waited: int) -> event_pb2.Event:
    """Return what a turn begins with; it waited so many microseconds."""
    duration = Duration()
    duration.FromMicroseconds(waited)
    return event_pb2.Event(turn_started=event_pb2.TurnStarted(model=model, route=route, queued_for=duration))


async def earlier(tx: Transaction, turn: TurnRow) -> Sequence[TurnRow] | None:
    """Return what an agent is to be told of turns before it; None for a turn that has none."""
    if turn.route != turn_pb2.TURN_ROUTE_AGENT:
        return None
    return await turns.direct_since_agent(tx, turn, history.TURNS)


class _Gone(Exception):  # noqa: N818 - rolls the transaction back
    """The turn did not wait any more."""
