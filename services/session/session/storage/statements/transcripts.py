"""Statements on transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from session import clock
from session.storage.tables import transcripts, turns
from session.storage.transaction import Transaction

_COLUMNS = (transcripts.c.project, transcripts.c.transcript_id, transcripts.c.subpath)


@dataclass(frozen=True)
class Key:
    """Which transcript of a session; the main one has an empty subpath."""

    session_id: str
    project: str
    transcript_id: str
    subpath: str = ""


@dataclass(frozen=True)
class Entry:
    """One line. `uuid` may be empty, and then it is never a duplicate."""

    uuid: str
    line: bytes


def _of(key: Key) -> sa.ColumnElement[bool]:
    return (
        (transcripts.c.session_id == key.session_id)
        & (transcripts.c.project == key.project)
        & (transcripts.c.transcript_id == key.transcript_id)
        & (transcripts.c.subpath == key.subpath)
    )


async def epoch_holds(tx: Transaction, session_id: str, epoch: int) -> bool:
    """Tell whether the session's newest turn that began has this epoch, and keep it so until the commit.

    The turn may be over: an agent writes its last lines while it ends.
    """
    query = (
        sa.select(turns.c.epoch)
        .where(turns.c.session_id == session_id, turns.c.start_time > 0)
        .order_by(turns.c.start_time.desc())
        .limit(1)
    )
    return (await tx.execute(query.with_for_update(read=True))).scalar() == epoch


async def append(tx: Transaction, key: Key, entries: Sequence[Entry]) -> None:
    """Add lines at the end, but those whose uuid is there already."""
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    time = clock.now()
    rows = [
        {
            "session_id": key.session_id,
            "project": key.project,
            "transcript_id": key.transcript_id,
            "subpath": key.subpath,
            "uuid": entry.uuid,
            "entry": entry.line,
            "write_time": time,
        }
        for entry in entries
    ]
    if rows:
        await tx.execute(insert(transcripts).on_conflict_do_nothing(), rows)


async def read(tx: Transaction, key: Key, after: int, limit: int) -> list[tuple[int, Entry]]:
    """Return lines after a position, in order, with their positions."""
    query = (
        sa.select(transcripts.c.position, transcripts.c.uuid, transcripts.c.entry)
        .where(_of(key), transcripts.c.position > after)
        .order_by(transcripts.c.position)
        .limit(limit)
    )
    return [(position, Entry(uuid, line)) for position, uuid, line in await tx.execute(query)]


async def keys(tx: Transaction, session_id: str, project: str) -> list[tuple[Key, int]]:
    """Return a session's transcripts with the time of their newest line; of one project if it is given."""
    query = sa.select(*_COLUMNS, sa.func.max(transcripts.c.write_time)).where(
        transcripts.c.session_id == session_id
    )
    if project:
        query = query.where(transcripts.c.project == project)
    rows = await tx.execute(query.group_by(*_COLUMNS).order_by(*_COLUMNS))
    return [(Key(session_id, *columns), time) for *columns, time in rows]


async def delete(tx: Transaction, key: Key) -> None:
    """Delete a transcript; the main one with all below it."""
    where = _of(key) if key.subpath else _of(key) | _below(key)
    await tx.execute(sa.delete(transcripts).where(where))


def _below(key: Key) -> sa.ColumnElement[bool]:
    return (
        (transcripts.c.session_id == key.session_id)
        & (transcripts.c.project == key.project)
        & (transcripts.c.transcript_id == key.transcript_id)
    )


async def whole(
    tx: Transaction, session_id: str, through: int, after: int, limit: int
) -> list[tuple[int, Key, Entry]]:
    """Return lines of all of a session's transcripts, in order, after one position and through another."""
    query = (
        sa.select(transcripts.c.position, *_COLUMNS, transcripts.c.uuid, transcripts.c.entry)
        .where(
            transcripts.c.session_id == session_id,
            transcripts.c.position > after,
            transcripts.c.position <= through,
        )
        .order_by(transcripts.c.position)
        .limit(limit)
    )
    return [
        (
            row.position,
            Key(session_id, row.project, row.transcript_id, row.subpath),
            Entry(row.uuid, row.entry),
        )
        for row in await tx.execute(query)
    ]
