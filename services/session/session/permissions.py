"""Permission requests: durable before anybody is asked, decided once, denied when nobody decides in time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from session import clock
from session.caller import Caller
from session.events.bus import Bus, Topic
from session.events.hub import Hub
from session.peers import Party, Runner
from session.questions import QUESTION_TOOL, check_answers
from session.storage.database import Database
from session.storage.rows import TurnRow
from session.storage.statements import events, permissions, sessions, turns
from session.storage.statements.permissions import PermissionRow
from session.storage.transaction import Transaction

_log = structlog.get_logger("session.permissions")

# What a person answers each time: a question, and whether a plan is good.
_ALWAYS_ASKED: Final = frozenset({QUESTION_TOOL, "ExitPlanMode"})
_EXPIRED_AT_ONCE: Final = 100
# Looks are no further apart, in case a message about a new request was lost.
_LOOK_SECONDS: Final = 5.0


class Permissions:
    """Keeps, decides and delivers permission requests."""

    def __init__(self, database: Database, bus: Bus, hub: Hub, runner: Runner) -> None:
        self._database = database
        self._bus = bus
        self._hub = hub
        self._runner = runner
        self._asked = asyncio.Event()

    async def decide(
        self, caller: Caller, session_id: str, turn_id: str, decided: event_pb2.PermissionDecided
    ) -> event_pb2.PermissionDecided:
        """Decide a request, durably, and hand the decision on.

        Raises Failure PERMISSION_NOT_FOUND, PERMISSION_DECIDED, SESSION_NOT_FOUND, TURN_NOT_FOUND, or
        INVALID_FIELD for an incomplete answer to a question. The same decision again is answered like the
        first.
        """

        async def check(tx: Transaction) -> TurnRow:
            await sessions.get(tx, caller, session_id)
            return await turns.get(tx, session_id, turn_id)

        turn = await self._database.run(check)
        return await self._decide(turn, decided)

    async def _decide(
        self, turn: TurnRow, decided: event_pb2.PermissionDecided
    ) -> event_pb2.PermissionDecided:
        logged, standing = await self._database.run(lambda tx: self._write(tx, turn, decided))
        self._hub.publish(turn.session_id, logged)
        if logged:
            self._bus.here(Topic.DECIDED, turn.id)
        return standing

    async def _write(
        self, tx: Transaction, turn: TurnRow, decided: event_pb2.PermissionDecided
    ) -> tuple[Sequence[event_pb2.Event], event_pb2.PermissionDecided]:
        row = await permissions.get(tx, turn.id, decided.permission_id)
        if row is None:
            raise Failure(
                errors_pb2.ERROR_REASON_PERMISSION_NOT_FOUND,
                f"The turn {turn.name} has no permission request of this id.",
            )
        asked = await events.permission_request(tx, turn, decided.permission_id) or event_pb2.Event()
        if row.tool == QUESTION_TOOL:
            check_answers(asked.permission_requested.input, decided)
        standing = event_pb2.PermissionDecided.FromString(row.decided)
        if row.decision and _same(standing, decided):
            return (), standing
        if row.decision or turn.over:
            raise _decided_before(row.decision)
        await sessions.any_phase(tx, turn.session_id)
        event = event_pb2.Event(permission_decided=decided, parent_tool_use_id=asked.parent_tool_use_id)
        logged = await events.append(tx, turn.session_id, [(turn.id, event)])
        if not await permissions.decide(
            tx, turn.id, decided.permission_id, decided.decision, decided.SerializeToString()
        ):
            raise _decided_before(0)
        if not await turns.touch_running(tx, turn.id, logged[-1].sequence):
            raise _decided_before(0)
        await self._bus.tell(tx, Topic.EVENTS, turn.session_id)
        await self._bus.tell(tx, Topic.DECIDED, turn.id)
        return logged, decided

    async def decided_by_runner(self, turn: TurnRow, decided: event_pb2.PermissionDecided) -> None:
        """Take note of what the runner decided by itself. What was decided here stands."""
        try:
            await self._decide(turn, decided)
        except Failure as failure:
            if failure.reason != errors_pb2.ERROR_REASON_PERMISSION_DECIDED:
                raise

    async def requested(self, turn: TurnRow, asked: event_pb2.PermissionRequested) -> None:
        """A request is in the log: answer it if somebody allowed the tool for the session."""
        self._asked.set()
        if asked.tool in _ALWAYS_ASKED:
            return
        allowed_by = await self._database.run(
            lambda tx: permissions.allowed_by(tx, turn.session_id, asked.tool)
        )
        if allowed_by is not None:
            decision = event_pb2.PermissionDecided(
                permission_id=asked.permission_id,
                decision=event_pb2.PERMISSION_DECISION_ALLOW,
                principal=allowed_by,
            )
            await self.decided_by_runner(turn, decision)

    async def deliver(self, turn: TurnRow) -> bool:
        """Hand the turn's decisions to the runner that runs it; tell whether it did not take some."""
        party = Party(turn.tenant, turn.account, turn.principal, turn.request_id)
        left = False
        for row in await self._database.run(lambda tx: permissions.undelivered(tx, turn.id)):
            decided = event_pb2.PermissionDecided.FromString(row.decided)
            if await self._runner.decide(party, turn.name, decided):
                await self._delivered(row)
            else:
                left = True
        return left

    async def _delivered(self, row: PermissionRow) -> None:
        await self._database.run(lambda tx: permissions.deliver(tx, row.turn_id, row.permission_id))

    async def deny_expired(self) -> None:
        """Deny what nobody decided in time, until cancelled."""
        while True:
            self._asked.clear()
            try:
                wait = await self._deny_due()
            except Failure as failure:
                _log.warning("expiry_waits", reason=failure.reason_name)
                wait = _LOOK_SECONDS
            try:
                async with asyncio.timeout(min(wait, _LOOK_SECONDS)):
                    await self._asked.wait()
            except TimeoutError:
                continue

    async def _deny_due(self) -> float:
        """Deny what is due; return the seconds until the next is."""
        due = await self._database.run(lambda tx: permissions.expired(tx, clock.now(), _EXPIRED_AT_ONCE))
        for row in due:
            await self._deny(row)
        expires = await self._database.run(permissions.next_expiry)
        return max((expires - clock.now()) / 1e6, 0.0) if expires else _LOOK_SECONDS

    async def _deny(self, row: PermissionRow) -> None:
        denied = event_pb2.PermissionDecided(
            permission_id=row.permission_id,
            decision=event_pb2.PERMISSION_DECISION_DENY,
            message="Nobody decided in time.",
            timed_out=True,
        )
        turn = await self._database.run(lambda tx: turns.get(tx, row.session_id, row.turn_id))
        if not turn.over:
            await self.decided_by_runner(turn, denied)
            return
        decision, decided = denied.decision, denied.SerializeToString()
        await self._database.run(
            lambda tx: permissions.decide(tx, row.turn_id, row.permission_id, decision, decided)
        )


def _same(standing: event_pb2.PermissionDecided, decided: event_pb2.PermissionDecided) -> bool:
    return (standing.decision, standing.message, standing.principal, standing.updated_input) == (
        decided.decision,
        decided.message,
        decided.principal,
        decided.updated_input,
    )


def _decided_before(decision: int) -> Failure:
    name = event_pb2.PermissionDecision.Name(event_pb2.PermissionDecision.ValueType(decision))
    return Failure(
        errors_pb2.ERROR_REASON_PERMISSION_DECIDED,
        "The permission request was decided before, or its turn is over.",
        decision=name.removeprefix("PERMISSION_DECISION_"),
    )
