"""Statements on snapshots that callers made; those that turns left are in turns.snapshot_id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from session import clock
from session.storage.rows import TurnRow
from session.storage.tables import Phase, sessions, snapshots, templates, turns
from session.storage.transaction import Transaction


@dataclass(frozen=True)
class SnapshotRow:
    """A row of `snapshots`."""

    id: str
    session_id: str
    title: bytes
    create_time: int
    size_bytes: int
    complete: int


@dataclass(frozen=True)
class Total:
    """Snapshots, and bytes in them."""

    count: int
    bytes: int


@dataclass(frozen=True)
class Unfinished:
    """A snapshot that is not complete, and whose it is."""

    id: str
    session_id: str
    tenant: str
    account: str


async def insert(tx: Transaction, snapshot_id: str, session_id: str, title: str) -> None:
    """Add a snapshot that is not complete yet."""
    await tx.execute(
        sa.insert(snapshots).values(
            id=snapshot_id, session_id=session_id, title=title.encode(), create_time=clock.now()
        )
    )


async def get(tx: Transaction, session_id: str, snapshot_id: str) -> SnapshotRow:
    """Return a session's snapshot, complete or not; Failure SNAPSHOT_NOT_FOUND."""
    query = sa.select(snapshots).where(snapshots.c.id == snapshot_id, snapshots.c.session_id == session_id)
    row = (await tx.execute(query)).first()
    if row is None:
        raise not_found()
    return SnapshotRow(**row._mapping)


async def complete_one(tx: Transaction, session_id: str, snapshot_id: str) -> SnapshotRow:
    """Return a session's snapshot that is there to be restored; Failure SNAPSHOT_NOT_FOUND."""
    row = await get(tx, session_id, snapshot_id)
    if not row.complete:
        raise not_found()
    return row


async def complete(tx: Transaction, snapshot_id: str, size_bytes: int) -> None:
    """Note that the runner has it."""
    await tx.execute(
        sa.update(snapshots).where(snapshots.c.id == snapshot_id).values(complete=1, size_bytes=size_bytes)
    )


async def delete(tx: Transaction, session_id: str, snapshot_id: str) -> None:
    """Remove a session's snapshot, complete or not; Failure SNAPSHOT_NOT_FOUND."""
    where = (snapshots.c.id == snapshot_id) & (snapshots.c.session_id == session_id)
    if not (await tx.execute(sa.delete(snapshots).where(where))).rowcount:
        raise not_found()


async def unfinished(tx: Transaction, before: int, limit: int) -> list[Unfinished]:
    """Return snapshots that were begun before a time and are not complete: nobody finishes them any more."""
    query = (
        sa.select(snapshots.c.id, snapshots.c.session_id, sessions.c.tenant, sessions.c.account)
        .join(sessions, sessions.c.id == snapshots.c.session_id)
        .where(snapshots.c.complete == 0, snapshots.c.create_time < before)
        .limit(limit)
    )
    return [Unfinished(*row) for row in await tx.execute(query)]


async def total_of_session(tx: Transaction, session_id: str) -> Total:
    """Return what the complete snapshots of a session come to."""
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(snapshots.c.size_bytes), 0)).where(
        snapshots.c.session_id == session_id, snapshots.c.complete == 1
    )
    return _total((await tx.execute(query)).one())


async def total_of_tenant(tx: Transaction, tenant: str) -> Total:
    """Return what the complete snapshots and the templates' files of a tenant come to."""
    made = (
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(snapshots.c.size_bytes), 0))
        .select_from(snapshots.join(sessions, sessions.c.id == snapshots.c.session_id))
        .where(sessions.c.tenant == tenant, snapshots.c.complete == 1)
    )
    filed = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(templates.c.size_bytes), 0)).where(
        templates.c.tenant == tenant, templates.c.phase == Phase.OPEN, templates.c.source_session_id != ""
    )
    one, other = _total((await tx.execute(made)).one()), _total((await tx.execute(filed)).one())
    return Total(one.count + other.count, one.bytes + other.bytes)


async def lock_tenant(tx: Transaction, tenant: str) -> None:
    """Let nobody else count this tenant's snapshots until the transaction ends.

    On SQLite nobody writes meanwhile in any case.
    """
    if tx.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(f"snapshots {tenant}".encode()).digest()[:8], signed=True)
        await tx.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def _total(row: Sequence[Any]) -> Total:
    # PostgreSQL's sums are decimal numbers.
    return Total(int(row[0]), int(row[1]))


async def page(
    tx: Transaction, session_id: str, after: tuple[int, str] | None, limit: int
) -> list[SnapshotRow]:
    """Return a session's complete snapshots, newest first, after the key (create time, id)."""
    query = sa.select(snapshots).where(snapshots.c.session_id == session_id, snapshots.c.complete == 1)
    if after is not None:
        query = query.where(sa.tuple_(snapshots.c.create_time, snapshots.c.id) < sa.tuple_(*after))
    query = query.order_by(snapshots.c.create_time.desc(), snapshots.c.id.desc()).limit(limit)
    return [SnapshotRow(**row._mapping) for row in await tx.execute(query)]


async def all_of(tx: Transaction, session_id: str) -> set[str]:
    """Return the ids of every snapshot of a session: made by callers, left by turns, begun with."""
    made = sa.select(snapshots.c.id).where(snapshots.c.session_id == session_id)
    left = sa.select(turns.c.snapshot_id).where(turns.c.session_id == session_id, turns.c.snapshot_id != "")
    first = sa.select(sessions.c.id).where(sessions.c.id == session_id, sessions.c.from_snapshot_id != "")
    return set((await tx.execute(made.union(left, first))).scalars())


async def left_by_turns(tx: Transaction, session_id: str) -> list[str]:
    """Return the ids of the snapshots that a session's turns left, newest first, each once."""
    query = (
        sa.select(turns.c.snapshot_id, sa.func.max(turns.c.end_time))
        .where(turns.c.session_id == session_id, turns.c.snapshot_id != "")
        .group_by(turns.c.snapshot_id)
        .order_by(sa.func.max(turns.c.end_time).desc())
    )
    return [snapshot_id for snapshot_id, _ in await tx.execute(query)]


async def forget_left(tx: Transaction, session_id: str, snapshot_id: str) -> None:
    """Note that a snapshot which turns left is gone."""
    await tx.execute(
        sa.update(turns)
        .where(turns.c.session_id == session_id, turns.c.snapshot_id == snapshot_id)
        .values(snapshot_id="")
    )


async def leave(tx: Transaction, turn: TurnRow, changes: int) -> None:
    """Note the snapshot that a turn left, begun when the workspace had been changed `changes` times."""
    await tx.execute(sa.update(turns).where(turns.c.id == turn.id).values(snapshot_id=turn.id))
    await tx.execute(
        sa.update(sessions)
        .where(sessions.c.id == turn.session_id)
        .values(
            snapshot_id=turn.id,
            # What was written while it was made may be missing in it.
            workspace_changed=sa.case(
                (sessions.c.workspace_changed == changes, 0), else_=sessions.c.workspace_changed
            ),
        )
    )


def not_found() -> Failure:
    """Return the failure for a snapshot that is not there."""
    return Failure(
        errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND,
        "There is no such snapshot of this session. ListSnapshots shows those there are.",
    )
