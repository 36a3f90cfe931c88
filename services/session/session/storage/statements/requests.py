"""Statements on requests that were made before, other than turns: those carry their own ids."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from session import clock
from session.refusals import request_id_reused
from session.storage.tables import requests
from session.storage.transaction import Transaction


async def once(
    tx: Transaction,
    tenant: str,
    account: str,
    request_id: str,
    *,
    method: str,
    body_hash: bytes,
    resource: str,
) -> str:
    """Note a request and return `resource`; the resource noted before, if the same request came before.

    Ids are those of an account, '' for what is the whole tenant's: who sees one account cannot find out
    whether an id was used in another.

    A request of the same id under way elsewhere is waited for. Failure REQUEST_ID_REUSED when the method or
    the body is another.
    """
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    statement = insert(requests).values(
        tenant=tenant,
        request_id=_scoped(account, request_id),
        method=method,
        body_hash=body_hash,
        resource=resource,
        create_time=clock.now(),
    )
    if (await tx.execute(statement.on_conflict_do_nothing())).rowcount:
        return resource
    query = sa.select(requests).where(
        requests.c.tenant == tenant, requests.c.request_id == _scoped(account, request_id)
    )
    row = (await tx.execute(query)).one()
    if (row.method, row.body_hash) != (method, body_hash):
        raise request_id_reused(request_id)
    return str(row.resource)


async def is_known(tx: Transaction, tenant: str, account: str, request_id: str) -> bool:
    """Tell whether a request of this id came before; `once` then says what it made."""
    where = (requests.c.tenant == tenant) & (requests.c.request_id == _scoped(account, request_id))
    return (await tx.execute(sa.select(requests.c.request_id).where(where))).first() is not None


async def forget(tx: Transaction, before: int, limit: int) -> int:
    """Forget requests made before a time, so that the table does not grow for ever; return how many."""
    old = (
        sa.select(requests.c.tenant, requests.c.request_id)
        .where(requests.c.create_time < before)
        .limit(limit)
    )
    statement = sa.delete(requests).where(sa.tuple_(requests.c.tenant, requests.c.request_id).in_(old))
    return (await tx.execute(statement)).rowcount


def _scoped(account: str, request_id: str) -> str:
    return f"{account}/{request_id}"
