"""One claimed turn from its start to its end: what it needs to know first, and which way it is answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import structlog
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.errors import Failure

from session import names
from session.events.hub import Hub
from session.events.log import Log
from session.metrics import metrics
from session.peers import Models, Runner
from session.permissions import Permissions
from session.queue.claim import Claim, earlier
from session.refusals import LeaseLost
from session.runs.agent import AgentTurn
from session.runs.direct import DirectTurn
from session.runs.writer import TurnWriter
from session.sessions import history
from session.sessions.settings import lost_source
from session.sessions.snapshots import Snapshots
from session.storage.database import Database
from session.storage.rows import TurnRow
from session.storage.statements import events, turns
from session.storage.transaction import Transaction

_log = structlog.get_logger("session.runs")

_DELIVER_AGAIN_SECONDS: Final = 0.5
# What an agent says or does. The rest only tells how it is getting on.
_EFFECTS: Final = (
    "assistant_message",
    "tool_use",
    "tool_result",
    "file_change",
    "permission_requested",
    "permission_decided",
)
# It may be this turn that the service dies of.
_DIRECT_RESTARTS: Final = 5
_ANSWERED: Final = (int(turn_pb2.TURN_STATE_SUCCEEDED), int(turn_pb2.TURN_STATE_FAILED))


class Runs:
    """Runs claimed turns. `patience` is how many seconds a runner may be out of reach."""

    def __init__(
        self,
        database: Database,
        log: Log,
        hub: Hub,
        *,
        runner: Runner,
        models: Models,
        permissions: Permissions,
        snapshots: Snapshots,
        patience: float,
    ) -> None:
        self._database = database
        self._log = log
        self._hub = hub
        self._runner = runner
        self._models = models
        self._permissions = permissions
        self._snapshots = snapshots
        self._patience = patience

    @staticmethod
    def can_be_left(claim: Claim) -> bool:
        """Say whether the turn goes on without us, for another owner to find."""
        return claim.turn.route == turn_pb2.TURN_ROUTE_AGENT

    async def run(self, claim: Claim, cancel: asyncio.Event, decided: asyncio.Event) -> bool:
        """Run a turn to its end; return whether its workspace is to be kept.

        Raises LeaseLost; when cancelled, leaves the turn as it is.
        """
        if not claim.recovered:
            metrics().started(claim.turn)
        with metrics().running(claim.turn):
            writer = await self._written(claim, cancel, decided)
        return writer.finished and writer.changed

    async def keep(self, claim: Claim) -> None:
        """Keep the workspace as a turn that is over left it, so that it can be forked."""
        await self._snapshots.left_by(claim.turn)

    async def _written(self, claim: Claim, cancel: asyncio.Event, decided: asyncio.Event) -> TurnWriter:
        """Run a turn until its end is in the log, or on its way there."""
        writer = TurnWriter(claim, self._log, self._hub)
        try:
            if claim.turn.route == turn_pb2.TURN_ROUTE_DIRECT:
                await self._direct(claim, writer, cancel, decided)
            else:
                await self._agent(claim, writer, cancel, decided, recovered=claim.recovered)
        except (LeaseLost, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the turn gets its end
            _log.exception("turn_failed", turn=claim.turn.name)
            await writer.failed(_fault(error))
        return writer

    async def _direct(
        self, claim: Claim, writer: TurnWriter, cancel: asyncio.Event, decided: asyncio.Event
    ) -> None:
        if claim.recovered and not await self._asked_again(writer):
            await writer.interrupted(
                "The session service stopped while the model answered. What the model had said is in the "
                "log; send the prompt again."
            )
            return
        earlier = await self._database.run(lambda tx: self._earlier(tx, claim.turn))
        escalated = await DirectTurn(writer, self._models, cancel, earlier).run()
        if escalated is None:
            return
        decision = event_pb2.TriageDecided(
            route=turn_pb2.TURN_ROUTE_AGENT,
            decided_by=claim.turn.model,
            reason=escalated.reason,
            escalated=True,
        )
        # Its route is in the database before the runner hears of it, or nobody would look for it there.
        append = await writer.put(
            event_pb2.Event(triage_decided=decision), turn={"route": int(turn_pb2.TURN_ROUTE_AGENT)}
        )
        await append.written()
        await self._agent(claim, writer, cancel, decided, recovered=False)

    async def _asked_again(self, writer: TurnWriter) -> bool:
        """Note that the model is asked again; False when the log has part of an answer, or after 5 times."""
        if writer.restarts >= _DIRECT_RESTARTS or await self._acted(writer.turn):
            return False
        again = event_pb2.ModelRetry(
            attempt=writer.restarts + 1,
            max_attempts=_DIRECT_RESTARTS + 1,
            message="The session service was restarted; the model is asked again.",
        )
        writer.restarts += 1
        append = await writer.put(event_pb2.Event(model_retry=again), turn={"restarts": writer.restarts})
        await append.written()
        return True

    async def _earlier(self, tx: Transaction, turn: TurnRow) -> list[TurnRow]:
        return await turns.newest(tx, turn.session_id, history.TURNS, states=_ANSWERED, before=turn)

    async def _agent(
        self,
        claim: Claim,
        writer: TurnWriter,
        cancel: asyncio.Event,
        decided: asyncio.Event,
        *,
        recovered: bool,
    ) -> None:
        if not recovered:
            lost = await self._lost(claim)
            if lost is not None:
                await writer.failed(lost)
                return
        else:
            # Decided while nobody was there to hand it on.
            decided.set()
        said = claim.earlier
        if said is None:
            said = await self._database.run(lambda tx: earlier(tx, writer.turn)) or ()
        courier = asyncio.create_task(self._deliver(writer.turn, decided))
        try:
            await AgentTurn(
                writer,
                self._runner,
                self._permissions,
                cancel,
                recovered=recovered,
                direct_turns=said,
                sandbox=claim.session.sandbox,
                workspace_made=bool(claim.session.workspace_made),
                acted=self._acted,
                epoch_if_over=self._epoch_if_over,
                patience=self._patience,
            ).run()
        finally:
            courier.cancel()
            with suppress(asyncio.CancelledError):
                await courier

    async def _lost(self, claim: Claim) -> Failure | None:
        if not claim.session.sandbox.shared_folders:
            return None
        return await self._database.run(lambda tx: lost_source(tx, claim.session))

    async def _acted(self, turn: TurnRow) -> bool:
        return await self._database.run(lambda tx: events.has_any(tx, turn, _EFFECTS))

    async def _epoch_if_over(self, name: str) -> int:
        try:
            session_id, turn_id = names.turn_ids_of(name)
            turn = await self._database.run(lambda tx: turns.get(tx, session_id, turn_id))
        except Failure:
            return 0
        return turn.epoch if turn.over else 0

    async def _deliver(self, turn: TurnRow, decided: asyncio.Event) -> None:
        """Hand decisions to the runner as they are made, until cancelled."""
        while True:
            await decided.wait()
            decided.clear()
            try:
                if not await self._permissions.deliver(turn):
                    continue
            except Failure as failure:
                _log.info("decision_waits", turn=turn.name, reason=failure.reason_name)
            await asyncio.sleep(_DELIVER_AGAIN_SECONDS)
            decided.set()


def _fault(error: Exception) -> Failure:
    """Return what a turn that met an unexpected error ends with."""
    if isinstance(error, Failure):
        return error
    return Failure(errors_pb2.ERROR_REASON_INTERNAL, "Something went wrong on our side; the log has it.")
