"""Accounts as callers know them: how much of each goes on at once, and how much may."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.session.v1 import account_service_pb2 as pb
from servicekit.paging import Listing, size

from session import names
from session.caller import Caller
from session.events.bus import Bus, Topic
from session.refusals import invalid_field
from session.storage.database import Database
from session.storage.statements import accounts
from session.storage.statements.accounts import AccountRow
from session.storage.transaction import Transaction


class Accounts:
    """Shows accounts and sets their limits. `default_limit` is for those without one of their own."""

    def __init__(self, database: Database, bus: Bus, default_limit: int) -> None:
        self._database = database
        self._bus = bus
        self._default_limit = default_limit

    async def get(self, caller: Caller, account: str) -> pb.Account:
        """Return an account; one that was never used has nothing to do and no limit of its own."""

        async def work(tx: Transaction) -> pb.Account:
            row = await accounts.find(tx, caller.tenant, account)
            limit = 0 if row is None else row.max_concurrent_turns
            activity = await accounts.activity(tx, caller.tenant, [account])
            return self._view(account, limit, activity.get(account, (0, 0)))

        return await self._database.run(work)

    async def page(self, caller: Caller, page_size: int, page_token: str) -> tuple[list[pb.Account], str]:
        """Return a page of accounts by name, and the next page's token."""
        listing = Listing("accounts", caller.tenant, caller.account)
        key, limit = listing.key(page_token), size(page_size, 50)
        after = None if key is None else key[1]

        async def work(tx: Transaction) -> tuple[list[AccountRow], dict[str, tuple[int, int]]]:
            rows = await accounts.page(tx, caller.tenant, caller.account, after, limit + 1)
            return rows, await accounts.activity(tx, caller.tenant, [row.account for row in rows])

        rows, activity = await self._database.run(work)
        views = [
            self._view(row.account, row.max_concurrent_turns, activity.get(row.account, (0, 0)))
            for row in rows[:limit]
        ]
        return views, listing.token(0, rows[limit - 1].account) if len(rows) > limit else ""

    async def update(self, caller: Caller, account: str, limit: int, paths: Sequence[str]) -> pb.Account:
        """Set the limit of turns at once, 0 for the installation's; turns that wait begin at once."""
        if list(paths) != ["max_concurrent_turns"]:
            raise invalid_field("update_mask", "must name max_concurrent_turns, which alone can be changed")

        async def work(tx: Transaction) -> None:
            await accounts.lock(tx, caller.tenant, account)
            await accounts.update(tx, caller.tenant, account, max_concurrent_turns=limit)
            await self._bus.tell(tx, Topic.QUEUE)

        await self._database.run(work)
        self._bus.here(Topic.QUEUE)
        return await self.get(caller, account)

    def _view(self, account: str, limit: int, activity: tuple[int, int]) -> pb.Account:
        running, queued = activity
        return pb.Account(
            name=names.account_name(account),
            max_concurrent_turns=limit,
            effective_max_concurrent_turns=limit or self._default_limit,
            running_turns=running,
            queued_turns=queued,
        )
