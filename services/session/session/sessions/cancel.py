"""Ending turns that have not begun."""

from __future__ import annotations

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.errors import Failure

from session import clock
from session.storage.rows import SessionRow, TurnRow
from session.storage.statements import events, turns
from session.storage.transaction import Transaction


async def cancel_queued(tx: Transaction, session: SessionRow, turn: TurnRow) -> list[event_pb2.Event]:
    """End a turn that waits, and return its last event. The caller holds the account's lock."""
    error = Failure(errors_pb2.ERROR_REASON_TURN_CANCELLED, "The turn was cancelled before it ran.")
    finished = turn_pb2.TurnFinished(
        outcome=turn_pb2.TURN_STATE_CANCELLED, error=error.to_proto(), usage=turn_pb2.Usage()
    )
    logged = await events.append(tx, turn.session_id, [(turn.id, event_pb2.Event(turn_finished=finished))])
    time = clock.now()
    await turns.update(
        tx,
        turn,
        state=turn_pb2.TURN_STATE_CANCELLED,
        cancel_time=time,
        end_time=time,
        result=finished.SerializeToString(),
        last_sequence=logged[-1].sequence,
        snapshot_id=session.snapshot_id,
    )
    return logged
