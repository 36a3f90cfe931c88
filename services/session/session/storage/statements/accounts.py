"""Statements on accounts: their limits and their place in the round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from servicekit.statement import Statement
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


_THIS: Final = (accounts.c.tenant == sa.bindparam("of_tenant")) & (
    accounts.c.account == sa.bindparam("of_account")
)
_LOCK: Final = Statement(sa.select(accounts).where(_THIS).with_for_update())
_LOCK_IF_FREE: Final = Statement(sa.select(accounts).where(_THIS).with_for_update(skip_locked=True))


async def lock(tx: Transaction, tenant: str, account: str) -> AccountRow:
    """Return the account's row, made if need be, that nobody else changes until the transaction ends."""
    this = {"of_tenant": tenant, "of_account": account}
    row = (await tx.run(_LOCK, this)).first()
    if row is None:
        await ensure(tx, tenant, account)
        row = (await tx.run(_LOCK, this)).one()
    return AccountRow(*row)


async def ensure(tx: Transaction, tenant: str, account: str) -> None:
    """Add an account unless it is there."""
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    await tx.execute(insert(accounts).values(tenant=tenant, account=account).on_conflict_do_nothing())


async def lock_if_free(tx: Transaction, tenant: str, account: str) -> AccountRow | None:
    """Return the account's row, locked; None when another replica has it right now."""
    row = (await tx.run(_LOCK_IF_FREE, {"of_tenant": tenant, "of_account": account})).first()
    return None if row is None else AccountRow(*row)


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
    return [AccountRow(*row) for row in rows]


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


_UPDATE: Final = Statement(sa.update(accounts).where(_THIS))


async def update(tx: Transaction, tenant: str, account: str, **values: int) -> None:
    """Change columns of an account."""
    await tx.run(_UPDATE, {"of_tenant": tenant, "of_account": account} | values)


async def count(tx: Transaction, tenant: str, account: str, state: sa.ColumnElement[bool]) -> int:
    """Return how many of the account's turns are in a state, IS_QUEUED or IS_RUNNING."""
    query = (
        sa.select(sa.func.count())
        .select_from(turns)
        .where(turns.c.tenant == tenant, turns.c.account == account, state)
    )
    return int((await tx.execute(query)).scalar_one())


_queued: Final = sa.func.sum(sa.case((turns.c.state == QUEUED, 1), else_=0))
_running: Final = sa.func.sum(sa.case((turns.c.state == RUNNING, 1), else_=0))
_busy: Final = (
    sa.select(turns.c.tenant, turns.c.account, _queued.label("queued"), _running.label("running"))
    .where(IS_ACTIVE)
    .group_by(turns.c.tenant, turns.c.account)
    .subquery()
)
_all_accounts: Final = accounts.alias()
_tenant_claim: Final = (
    sa.select(sa.func.max(_all_accounts.c.last_claim_time))
    .where(_all_accounts.c.tenant == _busy.c.tenant)
    .scalar_subquery()
)
_LOADS: Final = Statement(
    sa.select(_busy, accounts.c.max_concurrent_turns, accounts.c.last_claim_time, _tenant_claim).join(
        accounts, (accounts.c.tenant == _busy.c.tenant) & (accounts.c.account == _busy.c.account)
    )
)


async def loads(tx: Transaction) -> Sequence[Load]:
    """Return what every account with a turn that waits or runs has to do."""
    return [
        Load(tenant, account, int(queued), int(running), limit, served, tenant_served)
        for tenant, account, queued, running, limit, served, tenant_served in await tx.run(_LOADS, {})
    ]
