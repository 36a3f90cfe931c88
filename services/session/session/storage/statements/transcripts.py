"""Statements on transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from session import clock
from session.storage.tables import transcripts, turns
from session.storage.transaction import Transaction

# Of lines that are read at once.
_PAGE_BYTES = 4 * 1024 * 1024
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


async def size(tx: Transaction, session_id: str) -> int:
    """Return the bytes of all lines of a session."""
    query = sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(transcripts.c.entry)), 0))
    return int((await tx.execute(query.where(transcripts.c.session_id == session_id))).scalar_one())


def _page(where: sa.ColumnElement[bool], limit: int) -> sa.ColumnElement[bool]:
    """Return the condition for the first lines that meet another: so many, and of 4 MiB, but at least one.

    Lines may have a megabyte each; to read `limit` of them at once would take as many.
    """
    length = sa.func.length(transcripts.c.entry)
    first = (
        sa.select(transcripts.c.position, length.label("bytes"))
        .where(where)
        .order_by(transcripts.c.position)
        .limit(limit)
        .subquery()
    )
    before = sa.func.sum(first.c.bytes).over(order_by=first.c.position) - first.c.bytes
    counted = sa.select(first.c.position, before.label("before")).subquery()
    return transcripts.c.position.in_(sa.select(counted.c.position).where(counted.c.before < _PAGE_BYTES))


def is_last(page: Sequence[tuple[int, Entry]], limit: int) -> bool:
    """Say whether nothing comes after a page that was read with this limit."""
    return len(page) < limit and sum(len(entry.line) for _, entry in page) < _PAGE_BYTES


async def read(tx: Transaction, key: Key, after: int, limit: int) -> list[tuple[int, Entry]]:
    """Return lines after a position, in order, with their positions: up to `limit`, see `is_last`."""
    query = (
        sa.select(transcripts.c.position, transcripts.c.uuid, transcripts.c.entry)
        .where(_page(_of(key) & (transcripts.c.position > after), limit))
        .order_by(transcripts.c.position)
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
    """Return lines of all of a session's transcripts, in order, after one position and through another.

    Up to `limit`, see `is_last`.
    """
    wanted = (
        (transcripts.c.session_id == session_id)
        & (transcripts.c.position > after)
        & (transcripts.c.position <= through)
    )
    query = (
        sa.select(transcripts.c.position, *_COLUMNS, transcripts.c.uuid, transcripts.c.entry)
        .where(_page(wanted, limit))
        .order_by(transcripts.c.position)
    )
    return [
        (
            row.position,
            Key(session_id, row.project, row.transcript_id, row.subpath),
            Entry(row.uuid, row.entry),
        )
        for row in await tx.execute(query)
    ]
