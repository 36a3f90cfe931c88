"""`pointsman.router.v1.RouterService`: the front door."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.router.v1 import router_service_pb2, router_service_pb2_grpc
from pointsman.session.v1 import turn_pb2, turn_service_pb2
from servicekit.context import account_of, answer_header, current_passport, current_request_id
from servicekit.drain import Drain
from servicekit.errors import Failure

from router import agent_run, requests
from router.admission.admission import Admission, Quota
from router.answers import check_succeeded, finish_of, left_running
from router.conversations import Conversations
from router.ending import unless_drained
from router.plan import Planner
from router.turns import Run, Turns

# The edge takes what a stream brings for lines of JSON unless it finds this.
_ONE_OBJECT: Final = ("x-pointsman-body", "object")


class RouterServicer(router_service_pb2_grpc.RouterServiceServicer):
    """Takes prompts to the session service and brings back what comes of them."""

    def __init__(
        self,
        turns: Turns,
        conversations: Conversations,
        planner: Planner,
        admission: Admission,
        drain: Drain,
    ) -> None:
        self._turns = turns
        self._planner = planner
        self._conversations = conversations
        self._admission = admission
        self._drain = drain

    async def Query(
        self, request: router_service_pb2.QueryRequest, context: Any
    ) -> router_service_pb2.QueryResponse:
        """Enqueue, wait for the end, answer."""
        async with (
            self._admitted(request.account_id, request.session),
            self._running(requests.from_query(request)) as run,
        ):
            finished = await self._outcome(run)
        turn = run.turn
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
        async with self._admitted(request.account, request.session):
            wanted = requests.from_turn_request(request)
            turn = await self._known(wanted)
            if turn is None:
                await self._planner.complete(wanted)
                turn = await self._turns.enqueue(wanted)
        return router_service_pb2.StartTurnResponse(turn=turn)

    async def RunTurn(
        self, request: router_service_pb2.RunTurnRequest, context: Any
    ) -> AsyncIterator[router_service_pb2.RunTurnResponse]:
        """Enqueue and relay the events. They can be taken up again, so a drain ends the stream at once."""
        async with (
            self._admitted(request.account, request.session),
            self._running(requests.from_turn_request(request)) as run,
        ):
            try:
                async with aclosing(self._drain.race(run.events)) as events:
                    async for event in events:
                        yield router_service_pb2.RunTurnResponse(event=event)
            except Failure as failure:
                yield router_service_pb2.RunTurnResponse(error=failure.to_proto())
                raise

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
        async with self._admitted(request.account_id, request.session_id or request.resume_session_id):
            session = await self._conversations.named_by(request)
            async with self._running(requests.from_agent_run(request, session)) as run:
                call_id = current_request_id()
                if not requests.wants_stream(request):
                    answer_header(*_ONE_OBJECT)
                    yield agent_run.result_item(await self._outcome(run), run.turn, call_id)
                    return
                try:
                    async with aclosing(self._drain.race(run.events)) as events:
                        async for item in agent_run.items(events, run.turn, call_id):
                            yield item
                except Failure as failure:
                    yield agent_run.error_item(failure, run.turn, call_id)
                    raise

    async def SendMessage(
        self, request: router_service_pb2.SendMessageRequest, context: Any
    ) -> router_service_pb2.SendMessageResponse:
        """Say it in the account's conversation and wait for the end."""
        async with (
            self._admitted(request.account_id, request.session),
            self._running(requests.from_message(request)) as run,
        ):
            await self._outcome(run)
        return router_service_pb2.SendMessageResponse(
            status="Message processed",
            timestamp=int(time.time() * 1000),
            session=run.turn.session,
            turn=run.turn.name,
        )

    async def GetQuota(
        self, request: router_service_pb2.GetQuotaRequest, context: Any
    ) -> router_service_pb2.GetQuotaResponse:
        """Show the limits of the caller and what is left of them."""
        quotas = await self._admission.quotas(current_passport().tenant, account_of(request.account))
        return router_service_pb2.GetQuotaResponse(quotas=[_quota(quota) for quota in quotas])

    def _admitted(self, account: str, session: str) -> AbstractAsyncContextManager[None]:
        """Hold a place for a turn; raises a Failure when there is none, or when the account is not theirs."""
        return self._admission.turn(current_passport().tenant, requests.turn_account(account, session))

    @asynccontextmanager
    async def _running(self, request: turn_service_pb2.EnqueueTurnRequest) -> AsyncIterator[Run]:
        """Plan the turn, make it durable and follow it; one that is durable already is followed as it is."""
        known = await self._known(request)
        if known is not None:
            async with self._turns.following(known) as run:
                yield run
            return
        await self._planner.complete(request)
        async with self._turns.running(request) as run:
            yield run

    async def _known(self, request: turn_service_pb2.EnqueueTurnRequest) -> turn_pb2.Turn | None:
        """Return the turn that this request made before, and see that the request has an id.

        Where planning asks nobody, nobody is asked here: making the turn again finds it, and a call is saved.
        """
        known = None
        if request.request_id and self._planner.asks_others:
            known = await self._turns.find(request)
        # With an id, making a turn can be tried again without harm.
        request.request_id = request.request_id or str(uuid.uuid4())
        return known

    async def _outcome(self, run: Run) -> turn_pb2.TurnFinished:
        """Wait for the end of a turn; raises the Failure that it ended with."""
        try:
            finished = await unless_drained(finish_of(run.events), self._drain)
        except Failure as failure:
            raise left_running(failure, run.turn) from failure
        check_succeeded(finished, run.turn)
        return finished


def _quota(quota: Quota) -> router_service_pb2.Quota:
    window, reset = None, None
    if quota.window is not None:
        window, reset = Duration(), Timestamp()
        window.FromTimedelta(quota.window)
        reset.FromMicroseconds(int(quota.reset_time * 1_000_000))
    return router_service_pb2.Quota(
        name=quota.name,
        scope=quota.scope,
        limit=quota.limit,
        remaining=quota.remaining,
        window=window,
        reset_time=reset,
    )
