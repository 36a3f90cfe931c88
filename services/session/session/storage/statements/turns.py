"""Statements on turns that any caller may cause; those of their owner are in claims.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import sqlalchemy as sa
from pointsman.session.v1 import turn_pb2
from servicekit.statement import Statement

from session import names
from session.refusals import turn_not_found
from session.storage.rows import TurnRow
from session.storage.tables import IS_ACTIVE, IS_RUNNING, QUEUED, transcripts, turns
from session.storage.transaction import Transaction

_INSERT: Final = Statement(sa.insert(turns).returning(turns))
_BY_REQUEST: Final = Statement(
    sa.select(turns).where(
        turns.c.tenant == sa.bindparam("tenant"),
        turns.c.account == sa.bindparam("account"),
        turns.c.request_id == sa.bindparam("request_id"),
    )
)


async def insert(tx: Transaction, **values: Any) -> TurnRow:
    """Add a turn and return it. IntegrityError when its request id was there before."""
    defaults: dict[str, Any] = {"result": b"", "usage": b""}
    return TurnRow.of((await tx.run(_INSERT, defaults | values)).one())


# Of a session, to find the one that ended last: more have not been queued after it.
_LOOKED_AT: Final = 50
_GET: Final = Statement(
    sa.select(turns).where(
        turns.c.id == sa.bindparam("turn_id"), turns.c.session_id == sa.bindparam("session_id")
    )
)


async def get(tx: Transaction, session_id: str, turn_id: str) -> TurnRow:
    """Return a turn of a session that the caller sees; Failure TURN_NOT_FOUND."""
    row = (await tx.run(_GET, {"turn_id": turn_id, "session_id": session_id})).first()
    if row is None:
        raise turn_not_found(session_id, turn_id)
    return TurnRow.of(row)


async def by_request(tx: Transaction, tenant: str, account: str, request_id: str) -> TurnRow | None:
    """Return the turn that a request made in an account, None when there was no such request."""
    values = {"tenant": tenant, "account": account, "request_id": request_id}
    row = (await tx.run(_BY_REQUEST, values)).first()
    return None if row is None else TurnRow.of(row)


async def update(tx: Transaction, turn: TurnRow | Active, **values: Any) -> bool:
    """Change columns of a turn if its state and epoch are still what `turn` says; tell whether they were."""
    statement = (
        sa.update(turns)
        .where(turns.c.id == turn.id, turns.c.state == turn.state, turns.c.epoch == turn.epoch)
        .values(values)
    )
    return bool((await tx.execute(statement)).rowcount)


async def page(
    tx: Transaction,
    session_id: str,
    states: Sequence[int],
    after: tuple[int, str] | None,
    limit: int,
) -> list[TurnRow]:
    """Return a session's turns, oldest first, after the key (create time, id)."""
    query = sa.select(turns).where(turns.c.session_id == session_id)
    if states:
        query = query.where(turns.c.state.in_(states))
    if after is not None:
        query = query.where(sa.tuple_(turns.c.create_time, turns.c.id) > sa.tuple_(*after))
    query = query.order_by(turns.c.create_time, turns.c.id).limit(limit)
    return [TurnRow.of(row) for row in await tx.execute(query)]


async def newest_over(tx: Transaction, session_id: str) -> TurnRow | None:
    """Return the turn of a session that ended last, None when none has."""
    over = [turn for turn in await newest(tx, session_id, _LOOKED_AT) if turn.over]
    return max(over, key=lambda turn: (turn.end_time, turn.id), default=None)


async def newest(
    tx: Transaction,
    session_id: str,
    limit: int,
    *,
    states: Sequence[int] = (),
    before: TurnRow | None = None,
) -> list[TurnRow]:
    """Return a session's newest turns, newest first; only in some states, only those made before one."""
    query = sa.select(turns).where(turns.c.session_id == session_id)
    if states:
        query = query.where(turns.c.state.in_(states))
    if before is not None:
        query = query.where(
            sa.tuple_(turns.c.create_time, turns.c.id) < sa.tuple_(before.create_time, before.id)
        )
    query = query.order_by(turns.c.create_time.desc(), turns.c.id.desc()).limit(limit)
    return [TurnRow.of(row) for row in await tx.execute(query)]


async def active(tx: Transaction, session_id: str) -> list[TurnRow]:
    """Return a session's running turn, if there is one, and then those that wait, next first."""
    query = (
        sa.select(turns)
        .where(turns.c.session_id == session_id, IS_ACTIVE)
        .order_by(turns.c.state.desc(), turns.c.position_key)
    )
    return [TurnRow.of(row) for row in await tx.execute(query)]


@dataclass(frozen=True)
class Active:
    """What a turn's place in the queue is known by."""

    id: str
    session_id: str
    state: int
    epoch: int
    position_key: int
    told_position: int

    @property
    def name(self) -> str:
        """The resource name."""
        return names.turn_name(self.session_id, self.id)


_OF_ACCOUNT: Final = Statement(
    sa.select(*(turns.c[field.name] for field in fields(Active)))
    .where(turns.c.tenant == sa.bindparam("tenant"), turns.c.account == sa.bindparam("account"), IS_ACTIVE)
    .order_by(turns.c.state.desc(), turns.c.position_key)
)


async def of_account(tx: Transaction, tenant: str, account: str) -> list[Active]:
    """Return an account's turns that run, and then those that wait, next first."""
    rows = await tx.run(_OF_ACCOUNT, {"tenant": tenant, "account": account})
    return [Active(*row) for row in rows]


async def waiting(tx: Transaction, tenant: str, account: str) -> list[Active]:
    """Return an account's turns that wait, next first."""
    return [turn for turn in await of_account(tx, tenant, account) if turn.state == QUEUED]


async def positions(tx: Transaction, wanted: Sequence[TurnRow]) -> dict[str, int]:
    """Return the place in its account's queue, from 1, of each turn that waits."""
    places: dict[str, int] = {}
    for tenant, account in {(turn.tenant, turn.account) for turn in wanted if turn.state == QUEUED}:
        queue = await waiting(tx, tenant, account)
        places.update({turn.id: place for place, turn in enumerate(queue, 1)})
    return places


async def touch_running(tx: Transaction, turn_id: str, last_sequence: int) -> bool:
    """Note a running turn's newest event, whoever owns it; tell whether it runs."""
    statement = sa.update(turns).where(turns.c.id == turn_id, IS_RUNNING).values(last_sequence=last_sequence)
    return bool((await tx.execute(statement)).rowcount)


async def all_over(tx: Transaction, session_id: str) -> list[TurnRow]:
    """Return all turns of a session that are over, in the order of their making."""
    query = (
        sa.select(turns)
        .where(turns.c.session_id == session_id, turns.c.end_time > 0)
        .order_by(turns.c.create_time, turns.c.id)
    )
    return [TurnRow.of(row) for row in await tx.execute(query)]


async def files_before(tx: Transaction, turn: TurnRow) -> bool:
    """Tell whether this turn, or one that ended before it, may have changed the workspace."""
    query = sa.select(turns.c.id).where(
        turns.c.session_id == turn.session_id,
        turns.c.end_time > 0,
        turns.c.end_time <= turn.end_time,
        (turns.c.tool_ran == 1) | (turns.c.snapshot_id != ""),
    )
    return (await tx.execute(query.limit(1))).first() is not None


async def transcript_end(tx: Transaction, turn: TurnRow) -> int:
    """Return the position of the transcript's last entry that was there when the next turn began."""
    query = sa.select(sa.func.min(turns.c.transcript_position)).where(
        turns.c.session_id == turn.session_id, turns.c.start_time > (turn.start_time or turn.end_time)
    )
    after: int | None = (await tx.execute(query)).scalar()
    if after is not None:
        return after
    newest = sa.select(sa.func.coalesce(sa.func.max(transcripts.c.position), 0)).where(
        transcripts.c.session_id == turn.session_id
    )
    return int((await tx.execute(newest)).scalar_one())


_agents: Final = turns.alias()
_SINCE_AGENT: Final = Statement(
    sa.select(turns)
    .where(
        turns.c.session_id == sa.bindparam("session_id"),
        turns.c.route == turn_pb2.TURN_ROUTE_DIRECT,
        sa.or_(turns.c.state == turn_pb2.TURN_STATE_SUCCEEDED, turns.c.state == turn_pb2.TURN_STATE_FAILED),
        turns.c.start_time
        > sa.select(sa.func.coalesce(sa.func.max(_agents.c.start_time), 0))
        .where(
            _agents.c.session_id == sa.bindparam("session_id"),
            _agents.c.route == turn_pb2.TURN_ROUTE_AGENT,
            _agents.c.state == turn_pb2.TURN_STATE_SUCCEEDED,
        )
        .scalar_subquery(),
    )
    .order_by(turns.c.start_time.desc())
    .limit(sa.bindparam("limit", type_=sa.Integer))
)


async def direct_since_agent(tx: Transaction, turn: TurnRow, limit: int) -> list[TurnRow]:
    """Return the newest direct turns that ended since the agent's last answer, newest first.

    Some of them failed, and may have the beginning of an answer, or none.
    """
    rows = await tx.run(_SINCE_AGENT, {"session_id": turn.session_id, "limit": limit})
    return [TurnRow.of(row) for row in rows]
