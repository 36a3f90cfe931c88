"""From how a turn ended to what its caller is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.errors import Failure

_WITHOUT_ERROR: Final = {
    turn_pb2.TURN_STATE_CANCELLED: (
        errors_pb2.ERROR_REASON_TURN_CANCELLED,
        "Somebody cancelled the turn.",
    ),
    turn_pb2.TURN_STATE_INTERRUPTED: (
        errors_pb2.ERROR_REASON_TURN_INTERRUPTED,
        "The turn was cut off: the runner it ran in is gone. Ask again to go on.",
    ),
}
_UNEXPLAINED: Final = (errors_pb2.ERROR_REASON_AGENT_FAILED, "The turn ended without an answer.")


async def finish_of(stream: AsyncGenerator[event_pb2.Event, None]) -> turn_pb2.TurnFinished:
    """Read a turn's events to the end and return the last one. The stream is closed in every case."""
    async with aclosing(stream) as events:
        async for event in events:
            if event.HasField("turn_finished"):
                return event.turn_finished
    raise Failure(errors_pb2.ERROR_REASON_INTERNAL, "The turn's events ended before the turn did.")


def left_running(failure: Failure, turn: turn_pb2.Turn) -> Failure:
    """Return the failure of a call that could not wait for its turn, and say how to get at that turn.

    The turn is durable and goes on: whoever just calls again has it run twice.
    """
    waiting = Failure(
        failure.reason,
        f"{failure.message} The turn {turn.name} goes on: follow it with WatchEvents, or call again with its "
        "request_id, which is in the metadata.",
        retry_after=failure.retry_after,
    )
    waiting.metadata = {
        **failure.metadata,
        "session": turn.session,
        "turn": turn.name,
        "request_id": turn.request_id,
    }
    return waiting


def check_succeeded(finished: turn_pb2.TurnFinished, turn: turn_pb2.Turn) -> None:
    """Raise the Failure that a turn ended with; its metadata says which turn that was."""
    if finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED:
        return
    if finished.HasField("error"):
        failure = Failure.from_proto(finished.error)
    else:
        failure = Failure(*_WITHOUT_ERROR.get(finished.outcome, _UNEXPLAINED))
    failure.metadata = {**failure.metadata, "session": turn.session, "turn": turn.name}
    raise failure
