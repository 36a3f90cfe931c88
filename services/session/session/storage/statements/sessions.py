"""Statements on sessions. A session that the caller may not see is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from servicekit.statement import Statement

from session.caller import Caller
from session.refusals import session_not_found
from session.storage.rows import SessionRow
from session.storage.tables import IS_ACTIVE, QUEUED, RUNNING, Phase, sessions, turns
from session.storage.transaction import Transaction


def visible(caller: Caller, phase: Phase = Phase.OPEN) -> sa.ColumnElement[bool]:
    """Return the condition on sessions that are there for this caller."""
    condition = (sessions.c.tenant == caller.tenant) & (sessions.c.phase == phase)
    if caller.account is not None:
        condition &= sessions.c.account == caller.account
    return condition


_ANY_PHASE: Final = Statement(sa.select(sessions).where(sessions.c.id == sa.bindparam("session_id")))


_VISIBLE: Final = Statement(
    sa.select(sessions).where(
        sessions.c.id == sa.bindparam("session_id"),
        sessions.c.tenant == sa.bindparam("tenant"),
        sessions.c.phase == sa.bindparam("phase"),
    )
)


async def get(tx: Transaction, caller: Caller, session_id: str, *, phase: Phase = Phase.OPEN) -> SessionRow:
    """Return a session; Failure SESSION_NOT_FOUND."""
    values = {"session_id": session_id, "tenant": caller.tenant, "phase": int(phase)}
    row = (await tx.run(_VISIBLE, values)).first()
    session = None if row is None else SessionRow.of(row)
    if session is None or caller.account not in (None, session.account):
        raise session_not_found(session_id)
    return session


async def any_phase(tx: Transaction, session_id: str) -> SessionRow:
    """Return a session that is there for us, whether or not it is for callers."""
    return SessionRow.of((await tx.run(_ANY_PHASE, {"session_id": session_id})).one())


async def lock(tx: Transaction, caller: Caller, session_id: str) -> SessionRow:
    """Return a session that nobody else changes until the transaction ends; Failure SESSION_NOT_FOUND."""
    query = sa.select(sessions).where(sessions.c.id == session_id, visible(caller)).with_for_update()
    row = (await tx.execute(query)).first()
    if row is None:
        raise session_not_found(session_id)
    return SessionRow.of(row)


async def lock_again(tx: Transaction, caller: Caller, session: SessionRow) -> SessionRow:
    """Return a session as it is now and stays until the transaction ends; Failure SESSION_NOT_FOUND.

    On SQLite that is how it was read, because nobody else writes meanwhile.
    """
    return session if tx.dialect.name == "sqlite" else await lock(tx, caller, session.id)


async def insert(tx: Transaction, **values: Any) -> SessionRow:
    """Add a session and return it."""
    defaults: dict[str, Any] = {
        "title": b"",
        "preferred_model": "",
        "template": "",
        "forked_from": "",
        "agent_state": b"",
        "usage": b"",
        "sandbox_settings": b"",
        "turn_options": b"",
    }
    statement = sa.insert(sessions).values(defaults | values).returning(sessions)
    return SessionRow.of((await tx.execute(statement)).one())


async def update(tx: Transaction, session_id: str, **values: Any) -> None:
    """Change columns of a session."""
    await tx.execute(sa.update(sessions).where(sessions.c.id == session_id).values(values))


async def note_change(tx: Transaction, session_id: str, *, made: bool = False) -> None:
    """Count that somebody changes files of a session's workspace; `made`: that it has them now."""
    columns = {"workspace_made": 1} if made else {}
    await update(tx, session_id, workspace_changed=sessions.c.workspace_changed + 1, **columns)


async def page(
    tx: Transaction, caller: Caller, account: str, after: tuple[int, str] | None, limit: int
) -> list[SessionRow]:
    """Return sessions, the one with the newest activity first, after the key (activity, id)."""
    query = sa.select(sessions).where(visible(caller))
    if account:
        query = query.where(sessions.c.account == account)
    if after is not None:
        query = query.where(sa.tuple_(sessions.c.last_activity_time, sessions.c.id) < sa.tuple_(*after))
    query = query.order_by(sessions.c.last_activity_time.desc(), sessions.c.id.desc()).limit(limit)
    return [SessionRow.of(row) for row in await tx.execute(query)]


async def newest(tx: Transaction, caller: Caller, account: str) -> SessionRow | None:
    """Return the account's session with the newest activity, None when it has none."""
    return next(iter(await page(tx, caller, account, None, 1)), None)


async def activity(tx: Transaction, session_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Return, for sessions that have any, the id of the running turn (or empty) and how many wait."""
    query = (
        sa.select(
            turns.c.session_id,
            sa.func.max(sa.case((turns.c.state == RUNNING, turns.c.id), else_="")),
            sa.func.sum(sa.case((turns.c.state == QUEUED, 1), else_=0)),
        )
        .where(turns.c.session_id.in_(session_ids), IS_ACTIVE)
        .group_by(turns.c.session_id)
    )
    return {session_id: (running, int(queued)) for session_id, running, queued in await tx.execute(query)}


async def maybe(tx: Transaction, session_id: str) -> SessionRow | None:
    """Return a session in any phase, whoever it is for; None when there is none."""
    row = (await tx.execute(sa.select(sessions).where(sessions.c.id == session_id))).first()
    return None if row is None else SessionRow.of(row)


async def locked(tx: Transaction, session_id: str) -> SessionRow | None:
    """Return a session in any phase, locked; None when there is none."""
    query = sa.select(sessions).where(sessions.c.id == session_id).with_for_update()
    row = (await tx.execute(query)).first()
    return None if row is None else SessionRow.of(row)
