"""`RunAgent`: a turn's events in the shape of the `/claude-code` endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pointsman.router.v1 import router_service_pb2
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.errors import Failure


async def items(
    events: AsyncIterator[event_pb2.Event], turn: turn_pb2.Turn, call_id: str
) -> AsyncIterator[router_service_pb2.RunAgentResponse]:
    """Yield an item for each event; the last is of type `result`, also when the run failed."""
    async for event in events:
        if event.HasField("turn_finished"):
            item = result_item(event.turn_finished, turn, call_id)
            item.event.CopyFrom(event)
            yield item
            return
        yield router_service_pb2.RunAgentResponse(
            type=event.WhichOneof("kind") or "",
            session_id=_uuid_of(turn),
            request_id=call_id,
            event=event,
        )


def result_item(
    finished: turn_pb2.TurnFinished, turn: turn_pb2.Turn, call_id: str
) -> router_service_pb2.RunAgentResponse:
    """Return the item of type `result`, without its event."""
    failed = finished.outcome != turn_pb2.TURN_STATE_SUCCEEDED
    return router_service_pb2.RunAgentResponse(
        type="result",
        result=finished.result or finished.error.message,
        session_id=_uuid_of(turn),
        request_id=call_id,
        is_error=failed,
    )


def error_item(failure: Failure, turn: turn_pb2.Turn, call_id: str) -> router_service_pb2.RunAgentResponse:
    """Return the item for a stream that ends before its run does."""
    return router_service_pb2.RunAgentResponse(
        type="error", session_id=_uuid_of(turn), request_id=call_id, is_error=True, error=failure.to_proto()
    )


def _uuid_of(turn: turn_pb2.Turn) -> str:
    return turn.session.removeprefix("sessions/")
