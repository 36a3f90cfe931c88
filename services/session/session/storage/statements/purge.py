"""Statements that remove for good."""

from __future__ import annotations

import sqlalchemy as sa

from session.storage.rows import SessionRow
from session.storage.tables import (
    IS_ACTIVE,
    Phase,
    events,
    permissions,
    sessions,
    snapshots,
    transcripts,
    turns,
)
from session.storage.transaction import Transaction


async def expire(tx: Transaction, now: int) -> None:
    """Mark sessions as deleted whose time has come."""
    await tx.execute(
        sa.update(sessions)
        .where(
            sessions.c.phase.in_((Phase.OPEN, Phase.FILLING)),
            sessions.c.expire_time > 0,
            sessions.c.expire_time <= now,
        )
        .values(phase=Phase.DELETING)
    )


async def ready(tx: Transaction, after: str, limit: int) -> list[SessionRow]:
    """Return deleted sessions in which nothing runs or waits any more, in the order of their ids."""
    busy = sa.exists().where(turns.c.session_id == sessions.c.id, IS_ACTIVE)
    deleted = (sessions.c.phase == Phase.DELETING) & (sessions.c.id > after)
    query = sa.select(sessions).where(deleted, ~busy).order_by(sessions.c.id).limit(limit)
    return [SessionRow.of(row) for row in await tx.execute(query)]


async def remove(tx: Transaction, session_id: str) -> None:
    """Remove every row of a session."""
    for table in (events, permissions, transcripts, snapshots, turns):
        await tx.execute(sa.delete(table).where(table.c.session_id == session_id))
    await tx.execute(sa.delete(sessions).where(sessions.c.id == session_id))


async def outdated(tx: Transaction, before: int, limit: int) -> list[tuple[str, int]]:
    """Return sessions that keep events of turns which ended before a time, with the last of those events."""
    query = (
        sa.select(turns.c.session_id, sa.func.max(turns.c.last_sequence))
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(
            turns.c.end_time > 0,
            turns.c.end_time < before,
            turns.c.last_sequence >= sessions.c.first_sequence,
        )
        .group_by(turns.c.session_id)
        .limit(limit)
    )
    return [(session_id, through) for session_id, through in await tx.execute(query)]


async def drop_events(tx: Transaction, session_id: str, through: int) -> int:
    """Remove a session's events up to a number, but none of a turn that is not over; return how many."""
    query = sa.select(sa.func.min(turns.c.first_sequence)).where(turns.c.session_id == session_id, IS_ACTIVE)
    active: int | None = (await tx.execute(query)).scalar()
    last = through if active is None else min(through, active - 1)
    await tx.execute(
        sa.update(sessions)
        .where(sessions.c.id == session_id, sessions.c.first_sequence <= last)
        .values(first_sequence=last + 1)
    )
    where = (events.c.session_id == session_id) & (events.c.sequence <= last)
    return (await tx.execute(sa.delete(events).where(where))).rowcount
