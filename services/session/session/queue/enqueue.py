"""Accepting turns: durable before it is acknowledged, once per request id, within the account's bound."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, turn_pb2, turn_service_pb2
from servicekit.errors import Failure
from sqlalchemy.exc import IntegrityError

from session import clock, names
from session.caller import Caller
from session.events.bus import Bus, Topic
from session.events.hub import Hub
from session.models import ModelNames
from session.options import filled_in, title_of
from session.peers import Party
from session.queue.wanted import Busy, Wanted, body_hash_of, columns, preface_of
from session.refusals import invalid_field, request_id_reused
from session.sessions.beginning import NewSession, new_session
from session.sessions.prepare import Preparer
from session.storage.database import Database
from session.storage.rows import SessionRow, TurnRow
from session.storage.statements import accounts, events, sessions, turns
from session.storage.tables import IS_ACTIVE, RUNNING
from session.storage.transaction import Transaction

# Accepts that wait for an account's lock at once: half of a replica's connections, so that a flood of one
# account leaves the others to the turns that run.
_WRITING: Final = 4


@dataclass(frozen=True)
class Accepted:
    """A turn that is durable."""

    turn: TurnRow
    position: int
    created: bool


class Queue:
    """Takes turns in. `limit` is how many may wait in one account, `account_limit` how many run at once."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        hub: Hub,
        *,
        models: ModelNames,
        preparer: Preparer,
        limit: int,
        account_limit: int,
    ) -> None:
        self._database = database
        self._bus = bus
        self._hub = hub
        self._models = models
        self._preparer = preparer
        self._limit = limit
        self._account_limit = account_limit
        self._writing = asyncio.Semaphore(_WRITING)

    async def enqueue(
        self, caller: Caller, account: str, request: turn_service_pb2.EnqueueTurnRequest
    ) -> Accepted:
        """Make a turn durable, and its session with it when the request names none.

        Raises Failure REQUEST_ID_REUSED, SESSION_NOT_FOUND, SESSION_BUSY, QUEUE_FULL, or what llm-proxy says
        of the model.
        """
        request_id = names.request_id_of(request.request_id)
        body_hash = body_hash_of(account, request)
        session_id = names.session_id_of(request.session, "session") if request.session else ""

        async def look_up(tx: Transaction) -> tuple[Accepted | None, SessionRow | None]:
            known = await self._known(tx, caller, request_id, body_hash)
            if known is not None:
                return known, None
            if session_id:
                return None, await sessions.get(tx, caller, session_id)
            return None, await sessions.newest(tx, caller, account) if request.newest_session else None

        known, session = await self._database.run(look_up)
        if known is not None:
            return known
        if session is not None and account not in ("", session.account):
            raise invalid_field("account", "is not the account of the session; leave it out")
        account = session.account if session is not None else account
        asked = request.model or (session.preferred_model if session is not None else "")
        model = await self._models.resolve(Party(caller.tenant, account, caller.principal, request_id), asked)
        wanted = Wanted(
            caller=caller,
            request=request,
            request_id=request_id,
            body_hash=body_hash,
            session_id=session.id if session is not None else names.new_id(),
            is_new=session is None,
            account=account,
            model=model,
            options=_options(request, session),
            sandbox=None if session is None else session.sandbox,
            next_to_run=await self._has_place(caller.tenant, account),
        )
        return await self._accept(wanted)

    async def find(
        self, caller: Caller, account: str, request: turn_service_pb2.EnqueueTurnRequest
    ) -> Accepted | None:
        """Return the turn that this request made before, None if it has not; Failure REQUEST_ID_REUSED."""
        if not request.request_id:
            return None
        request_id = names.request_id_of(request.request_id)
        body_hash = body_hash_of(account, request)
        return await self._database.run(lambda tx: self._known(tx, caller, request_id, body_hash))

    async def _has_place(self, tenant: str, account: str) -> bool:
        async def look(tx: Transaction) -> bool:
            row = await accounts.find(tx, tenant, account)
            limit = (row and row.max_concurrent_turns) or self._account_limit
            return await accounts.count(tx, tenant, account, IS_ACTIVE) < limit

        return await self._database.run(look)

    async def _known(
        self, tx: Transaction, caller: Caller, request_id: str, body_hash: bytes
    ) -> Accepted | None:
        """Return the turn that the request made before."""
        turn = await turns.by_request(tx, caller.tenant, request_id)
        if turn is None:
            return None
        if turn.body_hash != body_hash or caller.account not in (None, turn.account):
            raise request_id_reused(request_id)
        positions = await turns.positions(tx, [turn])
        return Accepted(turn, positions.get(turn.id, 0), created=False)

    async def _accept(self, wanted: Wanted) -> Accepted:
        if wanted.route == turn_pb2.TURN_ROUTE_AGENT and wanted.next_to_run:
            party = Party(wanted.caller.tenant, wanted.account, wanted.caller.principal, wanted.request_id)
            self._preparer.prepare(party, wanted.session_id, wanted.model, wanted.options, wanted.sandbox)
        turn_id = names.new_id()
        try:
            async with self._writing:
                accepted, logged, interrupted = await self._database.run(
                    lambda tx: self._write(tx, wanted, turn_id)
                )
        except IntegrityError:
            # The same request id, at the same moment, in another account.
            raise request_id_reused(wanted.request_id) from None
        if accepted.created:
            self._hub.publish(accepted.turn.session_id, logged)
            self._bus.here(Topic.QUEUE)
        if interrupted:
            self._bus.here(Topic.CANCEL, interrupted)
        return accepted

    async def _write(
        self, tx: Transaction, wanted: Wanted, turn_id: str
    ) -> tuple[Accepted, Sequence[event_pb2.Event], str]:
        """Write the turn; return it, its first events, and the id of a turn that it interrupts."""
        tenant = wanted.caller.tenant
        account = await accounts.lock(tx, tenant, wanted.account)
        # Under the account's lock: the same request at the same moment is here already, or not at all.
        known = await self._known(tx, wanted.caller, wanted.request_id, wanted.body_hash)
        if known is not None:
            return known, (), ""
        wanted = await _settled(tx, wanted)
        waiting = await turns.waiting(tx, tenant, wanted.account)
        self._check_room(wanted.account, len(waiting))
        title, busy = await self._session(tx, wanted)
        first_key = min((turn.position_key for turn in waiting), default=account.next_key) - 1
        interrupted, key = await self._place(tx, wanted, busy, (first_key, account.next_key))
        await accounts.update(tx, tenant, wanted.account, next_key=account.next_key + 1)
        position = sum(turn.position_key < key for turn in waiting) + 1
        queued = event_pb2.Event(turn_queued=event_pb2.TurnQueued(position=position))
        first = [(turn_id, event) for event in (queued, *preface_of(wanted))]
        changes: dict[str, object] = {"title": title} if title else {}
        if wanted.request.model and not (busy.session and busy.session.preferred_set):
            changes["preferred_model"] = wanted.model
        logged = await events.append(tx, wanted.session_id, first, **changes)
        await turns.insert(tx, **columns(wanted, turn_id, key, position, logged))
        await self._bus.tell(tx, Topic.EVENTS, wanted.session_id)
        await self._bus.tell(tx, Topic.QUEUE)
        turn = await turns.get(tx, wanted.session_id, turn_id)
        return Accepted(turn, position, created=True), logged, interrupted

    def _check_room(self, account: str, waiting: int) -> None:
        if waiting >= self._limit:
            raise Failure(
                errors_pb2.ERROR_REASON_QUEUE_FULL,
                f"{self._limit} turns of the account {account} wait already. Come back when some are done, "
                "or cancel some.",
                retry_after=timedelta(seconds=5),
                limit=str(self._limit),
            )

    async def _session(self, tx: Transaction, wanted: Wanted) -> tuple[bytes, Busy]:
        """Make or lock the session; return the title it is to have (empty: as it is), and what is in it."""
        title = title_of(wanted.request.prompt)
        if wanted.is_new:
            fresh = NewSession(wanted.account, title)
            await sessions.insert(tx, **new_session(wanted.session_id, wanted.caller.tenant, fresh))
            return b"", Busy(None, ())
        session = await sessions.lock(tx, wanted.caller, wanted.session_id)
        active = await turns.active(tx, wanted.session_id)
        return b"" if session.title else title.encode(), Busy(session, active)

    async def _place(
        self, tx: Transaction, wanted: Wanted, busy: Busy, keys: tuple[int, int]
    ) -> tuple[str, int]:
        """Apply the busy policy; return the turn that is interrupted, if one is, and the new turn's key.

        `keys` are the ones that put it before and behind all others of its account.
        """
        policy = wanted.request.busy_policy
        if not busy.active or policy in (turn_pb2.BUSY_POLICY_UNSPECIFIED, turn_pb2.BUSY_POLICY_ENQUEUE):
            return "", keys[1]
        if policy == turn_pb2.BUSY_POLICY_REJECT:
            raise Failure(
                errors_pb2.ERROR_REASON_SESSION_BUSY,
                "The session has a turn that runs or waits, and the call asked not to wait.",
                turn=busy.active[0].name,
            )
        running = busy.active[0] if busy.active[0].state == RUNNING else None
        if running is None:
            return "", keys[0]
        await turns.update(tx, running, cancel_time=clock.now())
        await self._bus.tell(tx, Topic.CANCEL, running.id)
        return running.id, keys[0]


async def _settled(tx: Transaction, wanted: Wanted) -> Wanted:
    """Return the request with the session that is its account's newest, where it asks for that one.

    Under the account's lock, so that two that come at once to an account without any do not make two.
    """
    if wanted.request.session or not wanted.request.newest_session:
        return wanted
    newest = await sessions.newest(tx, wanted.caller, wanted.account)
    options = _options(wanted.request, newest)
    if newest is not None:
        return replace(wanted, session_id=newest.id, is_new=False, options=options)
    if wanted.is_new:
        return wanted
    return replace(wanted, session_id=names.new_id(), is_new=True, options=options)


def _options(
    request: turn_service_pb2.EnqueueTurnRequest, session: SessionRow | None
) -> turn_pb2.TurnOptions:
    """Return the turn's options: its own, else those of its session's template, else the defaults."""
    return filled_in(request.options, *([] if session is None else [session.default_options]))
