"""Statements on the event log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from pointsman.session.v1 import event_pb2
from servicekit.statement import Statement

from session import clock, names
from session.fit import EVENT_BYTES, fit
from session.storage.rows import TurnRow
from session.storage.tables import events, sessions
from session.storage.transaction import Transaction

_EXTEND: Final = Statement(
    sa.update(sessions)
    .where(sessions.c.id == sa.bindparam("of_session"))
    .values(last_sequence=sessions.c.last_sequence + sa.bindparam("more", type_=sa.BigInteger))
    .returning(sessions.c.last_sequence)
)
_INSERT: Final = Statement(sa.insert(events))
_READ: Final = Statement(
    sa.select(events.c.payload)
    .where(
        events.c.session_id == sa.bindparam("of_session"),
        events.c.sequence > sa.bindparam("after"),
        events.c.sequence <= sa.bindparam("through"),
    )
    .order_by(events.c.sequence)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_NO_END: Final = 2**63 - 1


async def append(
    tx: Transaction, session_id: str, items: Sequence[tuple[str, event_pb2.Event]], **changes: Any
) -> list[event_pb2.Event]:
    """Put events, each with the id of its turn, at the end of a session's log, and return them numbered.

    `changes` are columns of the session to set with them. The session's row stays locked until the
    transaction ends, so the numbers have no gaps and are seen in order.
    """
    time = clock.now()
    values = {"of_session": session_id, "more": len(items), "last_activity_time": time} | changes
    (last,) = (await tx.run(_EXTEND, values)).one()
    numbered = [
        numbered_event(session_id, turn_id, event, last - len(items) + place, time)
        for place, (turn_id, event) in enumerate(items, 1)
    ]
    await insert(tx, session_id, [turn_id for turn_id, _ in items], numbered)
    return numbered


def numbered_event(
    session_id: str, turn_id: str, event: event_pb2.Event, sequence: int, time: int
) -> event_pb2.Event:
    """Give an event its place in the log, and the time where it has none."""
    event.sequence = sequence
    event.turn = names.turn_name(session_id, turn_id)
    if not event.HasField("create_time"):
        event.create_time.CopyFrom(clock.timestamp(time) or event.create_time)
    return event


async def insert(
    tx: Transaction, session_id: str, turn_ids: Sequence[str], numbered: Sequence[event_pb2.Event]
) -> None:
    """Write events that have their numbers."""
    rows = [row_of(session_id, turn_id, event) for turn_id, event in zip(turn_ids, numbered, strict=True)]
    if rows:
        await tx.run(_INSERT, rows)


def row_of(session_id: str, turn_id: str, event: event_pb2.Event) -> dict[str, Any]:
    """Return the row of an event that has its number."""
    return {
        "session_id": session_id,
        "sequence": event.sequence,
        "turn_id": turn_id,
        "kind": kind_of(event),
        "create_time": clock.from_timestamp(event.create_time),
        "payload": event.SerializeToString(),
    }


def kind_of(event: event_pb2.Event) -> int:
    """Return the number of the field that is set, 0 for none."""
    kind = event.WhichOneof("kind")
    return event_pb2.Event.DESCRIPTOR.fields_by_name[kind].number if kind else 0


async def read(
    tx: Transaction, session_id: str, after: int, limit: int, *, through: int = _NO_END
) -> list[event_pb2.Event]:
    """Return events after a sequence number, oldest first; only up to a number, if asked.

    One that an older version logged may be too large for any response; it is cut.
    """
    values = {"of_session": session_id, "after": after, "through": through, "limit": limit}
    rows = await tx.run(_READ, values)
    return [fit(event_pb2.Event.FromString(payload), EVENT_BYTES) for (payload,) in rows]


async def has_any(tx: Transaction, turn: TurnRow, kinds: Sequence[str]) -> bool:
    """Tell whether a turn has logged an event of these kinds."""
    numbers = [event_pb2.Event.DESCRIPTOR.fields_by_name[kind].number for kind in kinds]
    query = sa.select(events.c.sequence).where(
        events.c.session_id == turn.session_id,
        events.c.sequence >= turn.first_sequence,
        events.c.turn_id == turn.id,
        events.c.kind.in_(numbers),
    )
    return (await tx.execute(query.limit(1))).first() is not None


async def permission_request(tx: Transaction, turn: TurnRow, permission_id: str) -> event_pb2.Event | None:
    """Return the event by which a turn asked for a permission; None when it is not in the log."""
    kind = event_pb2.Event.DESCRIPTOR.fields_by_name["permission_requested"].number
    query = sa.select(events.c.payload).where(
        events.c.session_id == turn.session_id,
        events.c.sequence >= turn.first_sequence,
        events.c.turn_id == turn.id,
        events.c.kind == kind,
    )
    for (payload,) in await tx.execute(query.order_by(events.c.sequence.desc())):
        event = event_pb2.Event.FromString(payload)
        if event.permission_requested.permission_id == permission_id:
            return event
    return None
