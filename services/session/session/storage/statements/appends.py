"""Statements that write many appends at once: their number does not grow with that of the appends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from pointsman.session.v1 import event_pb2
from servicekit.statement import Statement

from session import names
from session.storage.tables import events, sessions, turns
from session.storage.transaction import Transaction

Key = TypeVar("Key")


@dataclass
class Held:
    """A turn as it is, and stays until the transaction ends."""

    epoch: int
    state: int
    runner_index: int


_LOCK_SESSIONS: Final = (
    sa.select(sessions.c.id, sessions.c.last_sequence)
    .where(sessions.c.id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(sessions.c.id)
    .with_for_update()
)
_LOCK_TURNS: Final = (
    sa.select(turns.c.id, turns.c.epoch, turns.c.state, turns.c.runner_index)
    .where(turns.c.id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(turns.c.id)
    .with_for_update()
)
_INSERT_EVENTS: Final = Statement(sa.insert(events))


async def lock_sessions(tx: Transaction, session_ids: Iterable[str]) -> dict[str, int]:
    """Lock sessions and return the number of the newest event of each."""
    rows = await tx.execute(_LOCK_SESSIONS, {"ids": sorted(session_ids)})
    return {row.id: row.last_sequence for row in rows}


async def lock_turns(tx: Transaction, turn_ids: Iterable[str]) -> dict[str, Held]:
    """Lock turns and return what an owner's right to write is judged by. No owner changes meanwhile."""
    rows = await tx.execute(_LOCK_TURNS, {"ids": sorted(turn_ids)})
    return {turn_id: Held(epoch, state, index) for turn_id, epoch, state, index in rows}


async def update_sessions(tx: Transaction, changes: Mapping[str, dict[str, Any]]) -> None:
    """Change columns of sessions, by id."""
    await _update(tx, sessions, [({"id": session_id}, values) for session_id, values in changes.items()])


async def update_turns(tx: Transaction, changes: Mapping[tuple[str, int], dict[str, Any]]) -> None:
    """Change columns of turns, by id and epoch."""
    rows = [({"id": turn_id, "epoch": epoch}, values) for (turn_id, epoch), values in changes.items()]
    await _update(tx, turns, rows)


async def _update(
    tx: Transaction, table: sa.Table, rows: Sequence[tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    """Run one statement for all rows that change the same columns."""
    together: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for key, values in rows:
        if any(isinstance(value, sa.ClauseElement) for value in values.values()):
            where = [table.c[column] == value for column, value in key.items()]
            await tx.execute(sa.update(table).where(*where).values(values))
        elif values:
            parameters = {f"key_{column}": value for column, value in key.items()}
            together[tuple(sorted(values))].append(parameters | {f"new_{c}": v for c, v in values.items()})
    key_columns = tuple(rows[0][0]) if rows else ()
    for columns, many in together.items():
        await tx.run(_update_of(table, key_columns, columns), many)


@cache
def _update_of(table: sa.Table, keys: tuple[str, ...], columns: tuple[str, ...]) -> Statement:
    """Return the statement that changes these columns. There are a few dozen combinations of them."""
    return Statement(
        sa.update(table)
        .where(*(table.c[column] == sa.bindparam(f"key_{column}") for column in keys))
        .values({column: sa.bindparam(f"new_{column}") for column in columns})
    )


async def insert_events(tx: Transaction, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows of events."""
    if rows:
        await tx.run(_INSERT_EVENTS, rows)


async def logged(tx: Transaction, newest: Mapping[Key, event_pb2.Event]) -> set[Key]:
    """Return the keys whose event is in the log, exactly as it is."""
    found = set()
    for key, event in newest.items():
        session_id, _ = names.turn_ids_of(event.turn)
        query = sa.select(events.c.payload).where(
            events.c.session_id == session_id, events.c.sequence == event.sequence
        )
        if (await tx.execute(query)).scalar() == event.SerializeToString():
            found.add(key)
    return found
