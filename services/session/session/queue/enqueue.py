"""Accepting turns: durable before it is acknowledged, once per request id, within the account's bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol

from pointsman.session.v1 import turn_pb2, turn_service_pb2
from servicekit.errors import Failure
from sqlalchemy.exc import IntegrityError

from session.caller import Caller
from session.events.bus import Bus, Topic
from session.events.hub import Hub
from session.models import ModelNames
from session.options import helper_models, resolve_helpers
from session.peers import Party
from session.queue.accept import Acceptance, Accepted, ModelWanted, known_turn
from session.queue.claim import Claim, Claims
from session.queue.wanted import Asked, Wanted, options_of
from session.refusals import request_id_reused
from session.sessions.prepare import Preparer
from session.storage.database import Database
from session.storage.rows import TurnRow
from session.storage.statements import accounts, sessions, turns
from session.storage.transaction import Transaction

# Accepts that wait for an account's lock at once: half of a replica's connections, so that a flood of one
# account leaves the others to the turns that run.
_WRITING: Final = 4


class Places(Protocol):
    """The places of this replica for turns that run."""

    def held(self) -> AbstractContextManager[Callable[[Claim], None] | None]:
        """Keep a place free while inside, and give what starts a turn in it; None when there is none."""


class Queue:
    """Takes turns in. `limit` is how many may wait in one account."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        hub: Hub,
        *,
        claims: Claims,
        places: Places,
        models: ModelNames,
        preparer: Preparer,
        limit: int,
    ) -> None:
        self._database = database
        self._bus = bus
        self._hub = hub
        self._claims = claims
        self._places = places
        self._models = models
        self._preparer = preparer
        self._limit = limit
        self._writing = asyncio.Semaphore(_WRITING)
        self._accepting: set[asyncio.Task[Accepted]] = set()

    async def enqueue(
        self,
        caller: Caller,
        account: str,
        request: turn_service_pb2.EnqueueTurnRequest,
        made: Callable[[TurnRow, bool], None] | None = None,
    ) -> Accepted:
        """Make a turn durable, and its session with it when the request names none.

        `made` is called with a turn that is new, and whether it runs here from now on, before anything of it
        is published; not with one that was made before, and late when the caller has gone away meanwhile.
        Raises Failure REQUEST_ID_REUSED, SESSION_NOT_FOUND, SESSION_BUSY, QUEUE_FULL, or what llm-proxy says
        of the model.
        """
        asked = Asked.of(caller, account, request)
        resolved: dict[str, str] = {}
        if asked.makes_session:
            await self._boot(asked, resolved)
        # To its end, even if the caller goes away: a turn that was claimed is also started.
        task = asyncio.create_task(self._accept(asked, resolved, made))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)
        return await asyncio.shield(task)

    async def find(
        self, caller: Caller, account: str, request: turn_service_pb2.EnqueueTurnRequest
    ) -> Accepted | None:
        """Return the turn that this request made before, None if it has not; Failure REQUEST_ID_REUSED."""
        if not request.request_id:
            return None
        asked = Asked.of(caller, account, request)

        async def look(tx: Transaction) -> Accepted | None:
            if asked.account or not asked.session_id:
                return await known_turn(tx, asked, asked.account)
            try:
                session = await sessions.get(tx, asked.caller, asked.session_id)
            except Failure:
                # Not there for this caller, and so no turn of it.
                return None
            return await known_turn(tx, asked, session.account)

        return await self._database.run(look)

    async def _boot(self, asked: Asked, resolved: dict[str, str]) -> None:
        """Let a new session's sandbox boot while its turn is being made durable, if it is next to run."""

        async def is_next(tx: Transaction) -> bool:
            if await known_turn(tx, asked, asked.account) is not None:
                return False
            row = await accounts.find(tx, asked.caller.tenant, asked.account)
            active = await turns.of_account(tx, asked.caller.tenant, asked.account)
            return self._claims.room(row, len(active))

        if not await self._database.run(is_next):
            return
        name = asked.request.model
        resolved[name] = await self._resolve(asked, asked.account, name)
        options = options_of(asked.request, None)
        for field, helper in helper_models(options):
            resolved[helper] = await self._resolve(asked, asked.account, helper, field)
        resolve_helpers(options, resolved.__getitem__)
        wanted = Wanted(asked, asked.account, None, resolved[name], options)
        if wanted.route == turn_pb2.TURN_ROUTE_AGENT:
            party = _party(asked, asked.account)
            self._preparer.prepare(party, wanted.session_id, wanted.model, wanted.options)

    async def _resolve(self, asked: Asked, account: str, model: str, field: str = "") -> str:
        return await self._models.resolve(_party(asked, account), model, field)

    async def _accept(
        self, asked: Asked, resolved: dict[str, str], made: Callable[[TurnRow, bool], None] | None
    ) -> Accepted:
        def model_of(tenant: str, name: str) -> str | None:
            return resolved[name] if name in resolved else self._models.remembered(tenant, name)

        acceptance = Acceptance(self._bus, self._claims, self._limit, model_of)
        while True:
            try:
                return await self._write(acceptance, asked, made)
            except ModelWanted as wanted:
                # Each time another one: what a session prefers may change meanwhile, but hardly twice.
                resolved[wanted.model] = await self._resolve(
                    asked, wanted.account, wanted.model, wanted.field
                )

    async def _write(
        self, acceptance: Acceptance, asked: Asked, made: Callable[[TurnRow, bool], None] | None
    ) -> Accepted:
        try:
            async with self._writing:
                with self._places.held() as start:
                    accepted = await self._database.run(
                        lambda tx: acceptance.accept(tx, asked, may_run=start is not None)
                    )
                    if accepted.created:
                        if made is not None:
                            made(accepted.turn, accepted.claim is not None)
                        self._hub.publish(accepted.turn.session_id, accepted.events)
                    if accepted.claim is not None and start is not None:
                        start(accepted.claim)
        except IntegrityError:
            # The same request id, at the same moment, in another account.
            raise request_id_reused(asked.request_id) from None
        if accepted.created and accepted.claim is None:
            self._bus.here(Topic.QUEUE)
        if accepted.interrupted:
            self._bus.here(Topic.CANCEL, accepted.interrupted)
        return accepted


def _party(asked: Asked, account: str) -> Party:
    return Party(asked.caller.tenant, account, asked.caller.principal, asked.request_id)
