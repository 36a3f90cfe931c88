"""The audit log, at rest. Nothing here changes or deletes an entry, and the database refuses to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from pointsman.router.v1 import audit_service_pb2
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from router.store.database import Database
from router.store.tables import audit

Entry = audit_service_pb2.AuditEntry

_TEXTS: Final = (
    "id",
    "tenant",
    "principal",
    "credential",
    "account",
    "method",
    "resource",
    "source_address",
    "code",
    "reason",
    "request_id",
    "prompt",
)
_EXPORT_PAGE: Final = 500


@dataclass(frozen=True)
class AuditSight:
    """Whose entries somebody sees: the tenant's; with `strangers`, also of those that nobody let in.

    With `account`, only what was done in that account.
    """

    tenant: str
    strangers: bool
    account: str | None


class AuditStore:
    """Keeps entries in the order in which they arrive."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = (
            (postgresql if database.postgres else sqlite)
            .insert(audit)
            .on_conflict_do_nothing(index_elements=["id"])
        )

    async def append(self, entries: Sequence[Entry]) -> None:
        """Keep entries; one whose id is here already is left as it is."""
        rows = [_row(entry) for entry in entries]

        async def insert(tx: AsyncConnection) -> None:
            await tx.execute(self._insert, rows)

        await self._database.run(insert)

    async def page(
        self, sight: AuditSight, wanted: audit_service_pb2.AuditFilter, *, before: int | None, size: int
    ) -> Sequence[tuple[int, Entry]]:
        """Return entries with their positions, newest first, that come before a position."""
        query = sa.select(audit).where(*_conditions(sight, wanted))
        if before is not None:
            query = query.where(audit.c.position < before)
        return await self._select(query.order_by(audit.c.position.desc()).limit(size))

    async def export(self, sight: AuditSight, wanted: audit_service_pb2.AuditFilter) -> AsyncIterator[Entry]:
        """Yield all entries, oldest first, page by page, so that none is held open."""
        after = 0
        while True:
            query = sa.select(audit).where(*_conditions(sight, wanted), audit.c.position > after)
            found = await self._select(query.order_by(audit.c.position).limit(_EXPORT_PAGE))
            for position, entry in found:
                yield entry
                after = position
            if len(found) < _EXPORT_PAGE:
                return

    async def _select(self, query: sa.Select[tuple[object, ...]]) -> Sequence[tuple[int, Entry]]:
        async def select(tx: AsyncConnection) -> Sequence[tuple[int, Entry]]:
            return [(row["position"], _entry(row)) for row in (await tx.execute(query)).mappings()]

        return await self._database.run(select)


def _conditions(sight: AuditSight, wanted: audit_service_pb2.AuditFilter) -> Sequence[sa.ColumnElement[bool]]:
    tenants = [sight.tenant, ""] if sight.strangers else [sight.tenant]
    conditions: list[sa.ColumnElement[bool]] = [audit.c.tenant.in_(tenants)]
    if sight.account is not None:
        conditions.append(audit.c.account == sight.account)
    exact = ("principal", "account", "method", "code")
    conditions += [audit.c[name] == getattr(wanted, name) for name in exact if getattr(wanted, name)]
    if wanted.resource:
        below = audit.c.resource.startswith(wanted.resource + "/", autoescape=True)
        conditions.append((audit.c.resource == wanted.resource) | below)
    if wanted.HasField("start_time"):
        conditions.append(audit.c.create_time >= wanted.start_time.ToMicroseconds())
    if wanted.HasField("end_time"):
        conditions.append(audit.c.create_time < wanted.end_time.ToMicroseconds())
    return conditions


def _row(entry: Entry) -> dict[str, object]:
    # PostgreSQL stores no NUL; what callers make up must not stop the log.
    texts = {name: getattr(entry, name).replace("\0", "\N{REPLACEMENT CHARACTER}") for name in _TEXTS}
    return {**texts, "create_time": entry.create_time.ToMicroseconds()}


def _entry(row: sa.RowMapping) -> Entry:
    entry = Entry(**{name: row[name] for name in _TEXTS})
    entry.create_time.FromMicroseconds(row["create_time"])
    return entry
