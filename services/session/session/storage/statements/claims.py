"""Statements of a turn's owner. Each names the owner's epoch; an old epoch changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from servicekit.statement import Statement

from session.storage.rows import TurnRow
from session.storage.tables import IS_ACTIVE, IS_QUEUED, IS_RUNNING, RUNNING, sessions, transcripts, turns
from session.storage.transaction import Transaction

_other = turns.alias()
_SESSION_IDLE = ~(
    sa.exists().where(
        _other.c.session_id == turns.c.session_id, _other.c.state == sa.literal_column(str(RUNNING))
    )
)


_TRANSCRIPT_POSITION: Final = (
    sa.select(sa.func.coalesce(sa.func.max(transcripts.c.position), 0))
    .where(transcripts.c.session_id == sa.bindparam("of_session"))
    .scalar_subquery()
)
_insert: Final = sa.insert(turns).values(transcript_position=_TRANSCRIPT_POSITION).returning(turns)
_INSERT: Final = Statement(_insert)
_NEXT: Final = Statement(
    sa.select(turns)
    .join(sessions, sessions.c.id == turns.c.session_id)
    .where(
        turns.c.tenant == sa.bindparam("tenant"),
        turns.c.account == sa.bindparam("account"),
        IS_QUEUED,
        _SESSION_IDLE,
        sessions.c.hold_until <= sa.bindparam("now"),
    )
    .order_by(turns.c.position_key)
    .limit(1)
)


async def next_of_account(tx: Transaction, tenant: str, account: str, now: int) -> TurnRow | None:
    """Return the account's first waiting turn whose session is free; None when there is none."""
    row = (await tx.run(_NEXT, {"tenant": tenant, "account": account, "now": now})).first()
    return None if row is None else TurnRow.of(row)


async def claim(
    tx: Transaction, turn: TurnRow, owner: int, expires: sa.ColumnElement[int] | int, **values: Any
) -> TurnRow | None:
    """Make a waiting turn the owner's and RUNNING, under the next epoch; None when it waits no more."""
    statement = (
        sa.update(turns)
        .where(turns.c.id == sa.bindparam("turn_id"), IS_QUEUED)
        .values(
            state=RUNNING,
            epoch=turns.c.epoch + 1,
            lease_owner=owner,
            lease_expires=expires,
            transcript_position=_TRANSCRIPT_POSITION,
            **values,
        )
        .returning(turns)
    )
    row = (await tx.execute(statement, {"turn_id": turn.id, "of_session": turn.session_id})).first()
    return None if row is None else TurnRow.of(row)


async def insert(tx: Transaction, owner: int, expires: sa.ColumnElement[int] | int, **values: Any) -> TurnRow:
    """Add a turn that is the owner's and RUNNING from the beginning. IntegrityError as turns.insert."""
    values |= {"state": RUNNING, "epoch": 1, "lease_owner": owner, "of_session": values["session_id"]}
    values |= {"result": b"", "usage": b""}
    if isinstance(expires, int):
        return TurnRow.of((await tx.run(_INSERT, values | {"lease_expires": expires})).one())
    statement = _insert.values(lease_expires=expires)
    return TurnRow.of((await tx.execute(statement, values)).one())


async def owned(tx: Transaction, turn_id: str) -> TurnRow:
    """Return a turn by its id alone."""
    return TurnRow.of((await tx.execute(sa.select(turns).where(turns.c.id == turn_id))).one())


async def renew(
    tx: Transaction, owner: int, expires: sa.ColumnElement[int] | int
) -> dict[str, tuple[int, int]]:
    """Extend the owner's leases; return epoch and time of cancelling by turn."""
    statement = (
        sa.update(turns)
        .where(IS_RUNNING, turns.c.lease_owner == owner)
        .values(lease_expires=expires)
        .returning(turns.c.id, turns.c.epoch, turns.c.cancel_time)
    )
    return {turn_id: (epoch, cancelled) for turn_id, epoch, cancelled in await tx.execute(statement)}


async def release(tx: Transaction, owner: int) -> None:
    """Let anybody take over the owner's turns at once."""
    await tx.execute(
        sa.update(turns)
        .where(IS_RUNNING, turns.c.lease_owner == owner)
        .values(lease_owner=0, lease_expires=0)
    )


async def owners(tx: Transaction) -> Sequence[int]:
    """Return who owns turns that run."""
    return (await tx.execute(sa.select(turns.c.lease_owner).where(IS_RUNNING).distinct())).scalars().all()


async def abandoned(
    tx: Transaction, owner: int, now: sa.ColumnElement[int] | int, dead: Sequence[int], limit: int
) -> list[TurnRow]:
    """Return turns of others that run without a valid lease, or whose owner is dead, locked."""
    query = (
        sa.select(turns)
        .where(
            IS_RUNNING,
            turns.c.lease_owner != owner,
            (turns.c.lease_expires < now) | turns.c.lease_owner.in_(dead),
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [TurnRow.of(row) for row in await tx.execute(query)]


async def take_over(
    tx: Transaction, turn: TurnRow, owner: int, expires: sa.ColumnElement[int] | int
) -> TurnRow | None:
    """Make a running turn the owner's, under the next epoch; None when its epoch is not what it was."""
    statement = (
        sa.update(turns)
        .where(turns.c.id == turn.id, IS_ACTIVE, turns.c.epoch == turn.epoch)
        .values(epoch=turns.c.epoch + 1, lease_owner=owner, lease_expires=expires)
        .returning(turns)
    )
    row = (await tx.execute(statement)).first()
    return None if row is None else TurnRow.of(row)
