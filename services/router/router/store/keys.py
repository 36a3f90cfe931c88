"""API keys, at rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from router.store.database import Database
from router.store.tables import keys


@dataclass(frozen=True)
class KeyRow:
    """One key. Times are microseconds since 1970, 0 for never; `scopes` are separated by spaces."""

    id: str
    tenant: str
    digest: bytes
    title: str
    role: str
    scopes: str
    account: str
    creator: str
    creator_tenant: str
    request_id: str
    create_time: int
    expire_time: int
    revoke_time: int = 0


@dataclass(frozen=True)
class Sight:
    """Which keys somebody sees: those of the tenant; with `given`, also those it gave to other tenants.

    With `account`, of these only the keys that are pinned to it.
    """

    tenant: str
    given: bool = False
    account: str | None = None

    def condition(self) -> sa.ColumnElement[bool]:
        """Return it as SQL."""
        seen = keys.c.tenant == self.tenant
        if self.given:
            seen |= keys.c.creator_tenant == self.tenant
        return seen if self.account is None else seen & (keys.c.account == self.account)


class KeyStore:
    """Keeps keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_ids(self, key_ids: Collection[str]) -> Mapping[str, KeyRow]:
        """Return those of these keys that there are, whosever they are, by their ids."""

        async def select(tx: AsyncConnection) -> Mapping[str, KeyRow]:
            found = await tx.execute(sa.select(keys).where(keys.c.id.in_(key_ids)))
            return {row["id"]: KeyRow(**row) for row in found.mappings()}

        return await self._database.run(select)

    async def insert(self, row: KeyRow) -> KeyRow | None:
        """Keep a new key; when its creator's request made one before, keep nothing and return that one."""

        async def insert(tx: AsyncConnection) -> None:
            await tx.execute(keys.insert().values(asdict(row)))

        try:
            await self._database.run(insert)
        except IntegrityError:
            same = (keys.c.creator_tenant == row.creator_tenant) & (keys.c.request_id == row.request_id)
            return await self._database.run(lambda tx: _one(tx, same))
        return None

    async def page(self, sight: Sight, *, before: tuple[int, str] | None, size: int) -> Sequence[KeyRow]:
        """Return keys, newest first, that come after the one of this time and id."""
        query = sa.select(keys).where(sight.condition())
        if before is not None:
            query = query.where(
                sa.tuple_(keys.c.create_time, keys.c.id) < sa.tuple_(*map(sa.literal, before))
            )
        query = query.order_by(keys.c.create_time.desc(), keys.c.id.desc()).limit(size)

        async def select(tx: AsyncConnection) -> Sequence[KeyRow]:
            return [KeyRow(**row) for row in (await tx.execute(query)).mappings()]

        return await self._database.run(select)

    async def revoke(self, sight: Sight, key_id: str, at: int) -> KeyRow | None:
        """Mark a key as revoked, unless it is; None when there is none in sight."""

        async def revoke(tx: AsyncConnection) -> KeyRow | None:
            found = await _one(tx, (keys.c.id == key_id) & sight.condition())
            if found is None or found.revoke_time:
                return found
            await tx.execute(keys.update().where(keys.c.id == key_id).values(revoke_time=at))
            return replace(found, revoke_time=at)

        return await self._database.run(revoke)


async def _one(tx: AsyncConnection, condition: sa.ColumnElement[bool]) -> KeyRow | None:
    row = (await tx.execute(sa.select(keys).where(condition))).mappings().one_or_none()
    return None if row is None else KeyRow(**row)
