"""Statements on templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from session.caller import Caller
from session.storage.rows import TemplateRow
from session.storage.tables import Phase, templates
from session.storage.transaction import Transaction


async def find(tx: Transaction, tenant: str, account: str, name: str) -> TemplateRow | None:
    """Return what a name means in an account: its own template, else the one for every account."""
    own_first = templates.c.account.desc()
    where = templates.c.account.in_((account, ""))
    return await _first(tx, sa.select(templates).where(_open(tenant, name), where).order_by(own_first))


async def exactly(tx: Transaction, tenant: str, account: str, name: str) -> TemplateRow | None:
    """Return the template of this account and name, locked; an empty account is every account."""
    where = templates.c.account == account
    return await _first(tx, sa.select(templates).where(_open(tenant, name), where).with_for_update())


async def by_id(tx: Transaction, template_id: str) -> TemplateRow | None:
    """Return a template in any phase."""
    return await _first(tx, sa.select(templates).where(templates.c.id == template_id))


async def page(
    tx: Transaction, caller: Caller, account: str, after: tuple[str, str] | None, limit: int
) -> list[TemplateRow]:
    """Return templates that the caller may see by (name, account), after that key.

    With `account` only those that its sessions can be made from.
    """
    query = sa.select(templates).where(templates.c.tenant == caller.tenant, templates.c.phase == Phase.OPEN)
    account = account or caller.account or ""
    if account:
        query = query.where(templates.c.account.in_((account, "")))
    if after is not None:
        query = query.where(sa.tuple_(templates.c.name, templates.c.account) > sa.tuple_(*after))
    rows = await tx.execute(query.order_by(templates.c.name, templates.c.account).limit(limit))
    return [TemplateRow.of(row) for row in rows]


async def insert(tx: Transaction, **values: Any) -> None:
    """Add a template."""
    await tx.execute(sa.insert(templates).values(values))


async def update(tx: Transaction, template_id: str, **values: Any) -> None:
    """Change columns of a template."""
    await tx.execute(sa.update(templates).where(templates.c.id == template_id).values(values))


async def open_(tx: Transaction, template_id: str, size_bytes: int) -> None:
    """Let callers see a template whose files are there, unless it was opened or removed meanwhile."""
    statement = sa.update(templates).where(templates.c.id == template_id, templates.c.phase == Phase.FILLING)
    await tx.execute(statement.values(phase=Phase.OPEN, expire_time=0, size_bytes=size_bytes))


async def prolong(tx: Transaction, template_id: str, expire_time: int) -> None:
    """Give a template that has not got its files yet more time."""
    filling = (templates.c.id == template_id) & (templates.c.phase == Phase.FILLING)
    await tx.execute(sa.update(templates).where(filling).values(expire_time=expire_time))


async def expire(tx: Transaction, now: int) -> None:
    """Mark templates as deleted that never got their files: from then on nobody opens them any more."""
    unfinished = (templates.c.phase == Phase.FILLING) & (templates.c.expire_time <= now)
    await tx.execute(sa.update(templates).where(unfinished).values(phase=Phase.DELETING))


async def to_remove(tx: Transaction, after: str, limit: int) -> Sequence[TemplateRow]:
    """Return templates that are deleted, in the order of their ids."""
    query = sa.select(templates).where(templates.c.phase == Phase.DELETING, templates.c.id > after)
    rows = await tx.execute(query.order_by(templates.c.id).limit(limit))
    return [TemplateRow.of(row) for row in rows]


async def remove(tx: Transaction, template_id: str) -> None:
    """Remove a template's row."""
    await tx.execute(sa.delete(templates).where(templates.c.id == template_id))


def _open(tenant: str, name: str) -> sa.ColumnElement[bool]:
    return (templates.c.tenant == tenant) & (templates.c.name == name) & (templates.c.phase == Phase.OPEN)


async def _first(tx: Transaction, query: sa.Select[Any]) -> TemplateRow | None:
    row = (await tx.execute(query.limit(1))).first()
    return None if row is None else TemplateRow.of(row)
