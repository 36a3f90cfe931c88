"""Rate limits and concurrency quotas, per tenant and per account. Counted in this process.

A refusal costs a dictionary look-up, so it comes at once, whatever else goes on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from router.admission.limits import AccountLimits, LimitSettings

_MINUTE: Final = timedelta(minutes=1)
# A turn takes about as long; sooner, nothing has changed.
_BUSY_SECONDS: Final = 1.0
# (tenant,) or (tenant, account): whose turns are counted together.
Party = tuple[str, ...]


@dataclass(frozen=True)
class Quota:
    """One limit and what is left of it. `window` is None for what may go on at once."""

    name: str
    scope: str
    limit: int
    remaining: int
    window: timedelta | None = None
    reset_time: float = 0.0


class Admission:
    """Says yes, or when to come back."""

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = settings
        self._rates = SlidingWindowCounterRateLimiter(MemoryStorage())
        # How many turns each party has at once; who has none is not in it.
        self._running: Counter[Party] = Counter()

    async def request(self, tenant: str) -> None:
        """Count a call; raises Failure RATE_LIMITED when there are too many in this minute."""
        await self._hit("requests", (tenant,), self._settings.of(tenant).requests_per_minute)

    @asynccontextmanager
    async def turn(self, tenant: str, account: str) -> AsyncIterator[None]:
        """Hold a place for a turn while inside; `account` is empty where the session knows it.

        Raises Failure RATE_LIMITED, and QUOTA_EXCEEDED for too many at once.
        """
        parties = self._parties(tenant, account)
        for party, limits in parties:
            self._check_room(party, limits.concurrent_turns)
        self._check_share(tenant)
        for party, limits in parties:
            await self._hit("turns", party, limits.turns_per_minute)
        names = [party for party, _ in parties]
        self._running.update(names)
        try:
            yield
        finally:
            self._running.subtract(names)
            for party in names:
                if not self._running[party]:
                    del self._running[party]

    async def quotas(self, tenant: str, account: str) -> Sequence[Quota]:
        """Return every limit that applies, with what is left."""
        found = []
        requests = self._settings.of(tenant).requests_per_minute
        if requests is not None:
            found.append(await self._rate("requests", (tenant,), requests))
        for party, limits in self._parties(tenant, account):
            if limits.turns_per_minute is not None:
                found.append(await self._rate("turns", party, limits.turns_per_minute))
            if limits.concurrent_turns is not None:
                left = max(limits.concurrent_turns - self._running[party], 0)
                found.append(Quota("concurrent_turns", _scope(party), limits.concurrent_turns, left))
        return found

    def _parties(self, tenant: str, account: str) -> Sequence[tuple[Party, AccountLimits]]:
        limits = self._settings.of(tenant)
        parties: list[tuple[Party, AccountLimits]] = [((tenant,), limits)]
        if account:
            parties.append(((tenant, account), limits.account))
        return parties

    def _check_room(self, party: Party, limit: int | None) -> None:
        if limit is not None and self._running[party] >= limit:
            raise _busy(
                f"This {_scope(party)} runs {limit} turns at once, which is all it may.", limit, party
            )

    def _check_share(self, tenant: str) -> None:
        tenants = {party[0] for party in self._running} | {tenant}
        total = sum(count for party, count in self._running.items() if len(party) == 1)
        limit = self._settings.concurrent_turns
        if total >= limit and self._running[tenant,] >= max(limit // len(tenants), 1):
            share = max(limit // len(tenants), 1)
            raise _busy("The installation is full, and this tenant has its share of it.", share, (tenant,))

    async def _hit(self, name: str, party: Party, limit: int | None) -> None:
        if limit is None or await self._rates.hit(RateLimitItemPerMinute(limit), name, *party):
            return
        quota = await self._rate(name, party, limit)
        raise Failure(
            errors_pb2.ERROR_REASON_RATE_LIMITED,
            f"This {_scope(party)} may have {limit} {name} a minute and has had them.",
            retry_after=timedelta(seconds=max(quota.reset_time - time.time(), 0.1)),
            limit=str(limit),
            scope=_scope(party),
        )

    async def _rate(self, name: str, party: Party, limit: int) -> Quota:
        stats = await self._rates.get_window_stats(RateLimitItemPerMinute(limit), name, *party)
        return Quota(name, _scope(party), limit, stats.remaining, _MINUTE, stats.reset_time)


def _scope(party: Party) -> str:
    return "tenant" if len(party) == 1 else "account"


def _busy(message: str, limit: int, party: Party) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
        f"{message} Try again when one is done.",
        retry_after=timedelta(seconds=_BUSY_SECONDS),
        limit=str(limit),
        scope=_scope(party),
    )
