"""Statements on accounts: their limits and their place in the round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from session.storage.tables import IS_ACTIVE, QUEUED, RUNNING, accounts, turns
from session.storage.transaction import Transaction


@dataclass(frozen=True)
class AccountRow:
    """A row of `accounts`."""

    tenant: str
    account: str
    max_concurrent_turns: int
    next_key: int
    last_claim_time: int


@dataclass(frozen=True)
class Load:
    """What an account has to do."""

    tenant: str
    account: str
    queued: int
    running: int
    limit: int
    """Turns that may run at once; 0 for the installation's default."""
    last_claim_time: int
    tenant_claim_time: int
    """The newest of the tenant's accounts, also of those that have nothing to do."""


async def lock(tx: Transaction, tenant: str, account: str) -> AccountRow:
    """Return the account's row, made if need be, that nobody else changes until the transaction ends."""
    query = sa.select(accounts).where(accounts.c.tenant == tenant, accounts.c.account == account)
    row = (await tx.execute(query.with_for_update())).first()
    if row is None:
        await ensure(tx, tenant, account)
        row = (await tx.execute(query.with_for_update())).one()
    return AccountRow(**row._mapping)


async def ensure(tx: Transaction, tenant: str, account: str) -> None:
    """Add an account unless it is there."""
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    await tx.execute(insert(accounts).values(tenant=tenant, account=account).on_conflict_do_nothing())


async def lock_if_free(tx: Transaction, tenant: str, account: str) -> AccountRow | None:
    """Return the account's row, locked; None when another replica has it right now."""
    query = sa.select(accounts).where(accounts.c.tenant == tenant, accounts.c.account == account)
    row = (await tx.execute(query.with_for_update(skip_locked=True))).first()
    return None if row is None else AccountRow(**row._mapping)


async def page(
    tx: Transaction, tenant: str, only: str | None, after: str | None, limit: int
) -> list[AccountRow]:
    """Return a tenant's accounts by name, or `only` that one, after a name."""
    query = sa.select(accounts).where(accounts.c.tenant == tenant)
    if only is not None:
        query = query.where(accounts.c.account == only)
    if after is not None:
        query = query.where(accounts.c.account > after)
    rows = await tx.execute(query.order_by(accounts.c.account).limit(limit))
    return [AccountRow(**row._mapping) for row in rows]


async def find(tx: Transaction, tenant: str, account: str) -> AccountRow | None:
    """Return an account's row; None when it was never used."""
    return next(iter(await page(tx, tenant, account, None, 1)), None)


async def activity(tx: Transaction, tenant: str, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return, for accounts that have any, how many of their turns run and how many wait."""
    running = sa.func.sum(sa.case((turns.c.state == RUNNING, 1), else_=0))
    queued = sa.func.sum(sa.case((turns.c.state == QUEUED, 1), else_=0))
    query = (
        sa.select(turns.c.account, running, queued)
        .where(turns.c.tenant == tenant, turns.c.account.in_(names), IS_ACTIVE)
        .group_by(turns.c.account)
    )
    return {name: (int(running), int(queued)) for name, running, queued in await tx.execute(query)}


async def update(tx: Transaction, tenant: str, account: str, **values: int) -> None:
    """Change columns of an account."""
    where = (accounts.c.tenant == tenant) & (accounts.c.account == account)
    await tx.execute(sa.update(accounts).where(where).values(values))


async def count(tx: Transaction, tenant: str, account: str, state: sa.ColumnElement[bool]) -> int:
    """Return how many of the account's turns are in a state, IS_QUEUED or IS_RUNNING."""
    query = (
        sa.select(sa.func.count())
        .select_from(turns)
        .where(turns.c.tenant == tenant, turns.c.account == account, state)
    )
    return int((await tx.execute(query)).scalar_one())


async def loads(tx: Transaction) -> Sequence[Load]:
    """Return what every account with a turn that waits or runs has to do."""
    queued = sa.func.sum(sa.case((turns.c.state == QUEUED, 1), else_=0))
    running = sa.func.sum(sa.case((turns.c.state == RUNNING, 1), else_=0))
    busy = (
        sa.select(turns.c.tenant, turns.c.account, queued.label("queued"), running.label("running"))
        .where(IS_ACTIVE)
        .group_by(turns.c.tenant, turns.c.account)
        .subquery()
    )
    all_accounts = accounts.alias()
    tenant_claim = (
        sa.select(sa.func.max(all_accounts.c.last_claim_time))
        .where(all_accounts.c.tenant == busy.c.tenant)
        .scalar_subquery()
    )
    query = sa.select(busy, accounts.c.max_concurrent_turns, accounts.c.last_claim_time, tenant_claim).join(
        accounts, (accounts.c.tenant == busy.c.tenant) & (accounts.c.account == busy.c.account)
    )
    return [
        Load(tenant, account, int(queued), int(running), limit, served, tenant_served)
        for tenant, account, queued, running, limit, served, tenant_served in await tx.execute(query)
    ]
