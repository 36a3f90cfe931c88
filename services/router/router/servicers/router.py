"""`pointsman.router.v1.RouterService`: the front door."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from pointsman.router.v1 import router_service_pb2, router_service_pb2_grpc
from pointsman.session.v1 import turn_pb2, turn_service_pb2
from servicekit.context import current_request_id
from servicekit.drain import Drain

from router import agent_run, requests
from router.answers import check_succeeded, finish_of
from router.conversations import Conversations
from router.turns import Turns


class RouterServicer(router_service_pb2_grpc.RouterServiceServicer):
    """Takes prompts to the session service and brings back what comes of them."""

    def __init__(self, turns: Turns, conversations: Conversations, drain: Drain) -> None:
        self._turns = turns
        self._conversations = conversations
        self._drain = drain

    async def Query(
        self, request: router_service_pb2.QueryRequest, context: Any
    ) -> router_service_pb2.QueryResponse:
        """Enqueue, wait for the end, answer."""
        turn = await self._turns.enqueue(requests.from_query(request))
        finished = await self._outcome(turn)
        return router_service_pb2.QueryResponse(
            success=True,
            response=finished.result,
            session=turn.session,
            turn=turn.name,
            model=turn.model,
            request_id=current_request_id(),
            usage=finished.usage,
        )

    async def StartTurn(
        self, request: router_service_pb2.StartTurnRequest, context: Any
    ) -> router_service_pb2.StartTurnResponse:
        """Enqueue and answer."""
        turn = await self._turns.enqueue(requests.from_turn_request(request))
        return router_service_pb2.StartTurnResponse(turn=turn)

    async def RunTurn(
        self, request: router_service_pb2.RunTurnRequest, context: Any
    ) -> AsyncIterator[router_service_pb2.RunTurnResponse]:
        """Enqueue and relay the events. They can be taken up again, so a drain ends the stream at once."""
        turn = await self._turns.enqueue(requests.from_turn_request(request))
        async with aclosing(self._drain.race(self._turns.follow(turn))) as events:
            async for event in events:
                yield router_service_pb2.RunTurnResponse(event=event)

    async def CancelTurn(
        self, request: router_service_pb2.CancelTurnRequest, context: Any
    ) -> router_service_pb2.CancelTurnResponse:
        """Pass it on."""
        return router_service_pb2.CancelTurnResponse(turn=await self._turns.cancel(request.name))

    async def DecidePermission(
        self, request: router_service_pb2.DecidePermissionRequest, context: Any
    ) -> router_service_pb2.DecidePermissionResponse:
        """Pass it on."""
        decided = await self._turns.decide(
            turn_service_pb2.DecidePermissionRequest(
                turn=request.turn,
                permission_id=request.permission_id,
                decision=request.decision,
                message=request.message,
                updated_input=request.updated_input if request.HasField("updated_input") else None,
            )
        )
        return router_service_pb2.DecidePermissionResponse(decided=decided)

    async def RunAgent(
        self, request: router_service_pb2.RunAgentRequest, context: Any
    ) -> AsyncIterator[router_service_pb2.RunAgentResponse]:
        """Run an agent, in a session that goes away with the run unless the caller wants one to stay."""
        session = await self._conversations.for_agent_run(request)
        temporary = not session and not request.keep
        turn = await self._turns.enqueue(requests.from_agent_run(request, session, temporary=temporary))
        call_id = current_request_id()
        if not requests.wants_stream(request):
            yield agent_run.result_item(await self._outcome(turn), turn, call_id)
            return
        async with aclosing(self._drain.race(self._turns.follow(turn))) as events:
            async for item in agent_run.items(events, turn, call_id):
                yield item

    async def SendMessage(
        self, request: router_service_pb2.SendMessageRequest, context: Any
    ) -> router_service_pb2.SendMessageResponse:
        """Say it in the account's conversation and wait for the end."""
        session = await self._conversations.for_message(request)
        turn = await self._turns.enqueue(requests.from_message(request, session))
        await self._outcome(turn)
        return router_service_pb2.SendMessageResponse(
            status="Message processed",
            timestamp=int(time.time() * 1000),
            session=turn.session,
            turn=turn.name,
        )

    async def _outcome(self, turn: turn_pb2.Turn) -> turn_pb2.TurnFinished:
        """Wait for the end of a turn; raises the Failure that it ended with."""
        async with aclosing(self._drain.race(self._turns.follow(turn))) as events:
            finished = await finish_of(events)
        check_succeeded(finished, turn)
        return finished
