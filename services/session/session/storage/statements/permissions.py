"""Statements on permission requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pointsman.session.v1 import event_pb2

from session.storage.tables import permissions
from session.storage.transaction import Transaction


@dataclass(frozen=True)
class PermissionRow:
    """A row of `permissions`."""

    turn_id: str
    permission_id: str
    session_id: str
    tool: str
    create_time: int
    expire_time: int
    decision: int
    decided: bytes
    delivered: int


async def insert(tx: Transaction, rows: Sequence[dict[str, Any]]) -> None:
    """Add requests."""
    await tx.execute(sa.insert(permissions), rows)


async def get(tx: Transaction, turn_id: str, permission_id: str) -> PermissionRow | None:
    """Return a turn's request; None when it has none of that id."""
    if "\0" in permission_id:
        return None
    query = sa.select(permissions).where(
        permissions.c.turn_id == turn_id, permissions.c.permission_id == permission_id
    )
    row = (await tx.execute(query)).first()
    return None if row is None else PermissionRow(**row._mapping)


async def decide(tx: Transaction, turn_id: str, permission_id: str, decision: int, decided: bytes) -> bool:
    """Decide a request; tell whether it was undecided."""
    statement = (
        sa.update(permissions)
        .where(
            permissions.c.turn_id == turn_id,
            permissions.c.permission_id == permission_id,
            permissions.c.decision == sa.literal_column("0"),
        )
        .values(decision=decision, decided=decided)
    )
    return bool((await tx.execute(statement)).rowcount)


async def undelivered(tx: Transaction, turn_id: str) -> list[PermissionRow]:
    """Return a turn's requests that are decided and that the runner has not heard of."""
    query = sa.select(permissions).where(
        permissions.c.turn_id == turn_id, permissions.c.decision != 0, permissions.c.delivered == 0
    )
    return [PermissionRow(**row._mapping) for row in await tx.execute(query)]


async def deliver(tx: Transaction, turn_id: str, permission_id: str) -> None:
    """Note that the runner has the decision."""
    await tx.execute(
        sa.update(permissions)
        .where(permissions.c.turn_id == turn_id, permissions.c.permission_id == permission_id)
        .values(delivered=1)
    )


async def expired(tx: Transaction, now: int, limit: int) -> list[PermissionRow]:
    """Return requests that nobody decided in time."""
    query = (
        sa.select(permissions)
        .where(permissions.c.decision == sa.literal_column("0"), permissions.c.expire_time <= now)
        .order_by(permissions.c.expire_time)
        .limit(limit)
    )
    return [PermissionRow(**row._mapping) for row in await tx.execute(query)]


async def next_expiry(tx: Transaction) -> int:
    """Return when the next waiting request expires; 0 when none waits."""
    query = sa.select(sa.func.min(permissions.c.expire_time)).where(
        permissions.c.decision == sa.literal_column("0")
    )
    return (await tx.execute(query)).scalar() or 0


async def allowed_by(tx: Transaction, session_id: str, tool: str) -> str | None:
    """Return who allowed a tool for the whole session; None when nobody did."""
    query = sa.select(permissions.c.decided).where(
        permissions.c.session_id == session_id,
        permissions.c.tool == tool,
        permissions.c.decision == event_pb2.PERMISSION_DECISION_ALLOW_FOR_SESSION,
    )
    stored = (await tx.execute(query.limit(1))).scalar()
    return None if stored is None else event_pb2.PermissionDecided.FromString(stored).principal
