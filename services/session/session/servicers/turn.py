"""TurnService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pointsman.session.v1 import event_pb2, turn_pb2, turn_service_pb2_grpc
from pointsman.session.v1 import turn_service_pb2 as pb
from servicekit.context import account_of, current_passport, log_fields

from session import names
from session.caller import Caller
from session.events.watch import Watch
from session.permissions import Permissions
from session.queue.accept import Accepted
from session.queue.enqueue import Queue
from session.queue.turns import Turns
from session.views import turn_view


class TurnServicer(turn_service_pb2_grpc.TurnServiceServicer):
    """What the router calls."""

    def __init__(self, queue: Queue, watch: Watch, turns: Turns, permissions: Permissions) -> None:
        self._queue = queue
        self._watch = watch
        self._turns = turns
        self._permissions = permissions

    async def EnqueueTurn(self, request: pb.EnqueueTurnRequest, _context: Any) -> pb.EnqueueTurnResponse:
        """Make a turn durable."""
        accepted = await self._queue.enqueue(Caller.of(current_passport()), _account(request), request)
        return pb.EnqueueTurnResponse(turn=_view(accepted), created=accepted.created)

    async def RunTurn(self, request: pb.RunTurnRequest, _context: Any) -> AsyncIterator[pb.RunTurnResponse]:
        """Make a turn durable and stream its events."""
        caller, asked = Caller.of(current_passport()), request.request
        with self._watch.place() as place:
            accepted = await self._queue.enqueue(caller, _account(asked), asked, place.take)
            yield pb.RunTurnResponse(turn=_view(accepted))
            async with place.events(caller, accepted.turn) as events:
                async for event in events:
                    yield pb.RunTurnResponse(event=event)

    async def FindTurn(self, request: pb.FindTurnRequest, _context: Any) -> pb.FindTurnResponse:
        """Find the turn that a request made before."""
        asked = request.request
        found = await self._queue.find(Caller.of(current_passport()), _account(asked), asked)
        return pb.FindTurnResponse(turn=turn_view(found.turn, found.position) if found else None)

    async def CancelTurn(self, request: pb.CancelTurnRequest, _context: Any) -> pb.CancelTurnResponse:
        """Cancel a turn."""
        session_id, turn_id = names.turn_ids_of(request.name)
        log_fields(session=names.session_name(session_id), turn=request.name)
        turn = await self._turns.cancel(Caller.of(current_passport()), session_id, turn_id)
        return pb.CancelTurnResponse(turn=turn)

    async def DecidePermission(
        self, request: pb.DecidePermissionRequest, _context: Any
    ) -> pb.DecidePermissionResponse:
        """Decide a permission request."""
        session_id, turn_id = names.turn_ids_of(request.turn, "turn")
        log_fields(session=names.session_name(session_id), turn=request.turn)
        caller = Caller.of(current_passport())
        decided = event_pb2.PermissionDecided(
            permission_id=request.permission_id,
            decision=request.decision,
            message=request.message,
            updated_input=request.updated_input if request.HasField("updated_input") else None,
            principal=caller.principal,
        )
        standing = await self._permissions.decide(caller, session_id, turn_id, decided)
        return pb.DecidePermissionResponse(decided=standing)


def _view(accepted: Accepted) -> turn_pb2.Turn:
    """Return a turn as callers see it, which the call's log line now names."""
    turn = accepted.turn
    log_fields(session=names.session_name(turn.session_id), turn=turn.name, account=turn.account)
    return turn_view(turn, accepted.position)


def _account(request: pb.EnqueueTurnRequest) -> str:
    """Return the account that a turn is for; empty where its session decides."""
    return account_of(request.account) if request.account or not request.session else ""
