"""The audit trail's way to its store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pointsman.errors.v1 import errors_pb2
from servicekit.audit import Entry, audit_trail
from servicekit.errors import Failure
from servicekit.testing import wait_until


async def test_an_entry_that_the_store_refuses_holds_up_no_other() -> None:
    stored: list[str] = []

    async def deliver(entries: Sequence[Entry]) -> None:
        if any(entry.method == "poison" for entry in entries):
            raise OverflowError("too large for the database")
        stored.extend(entry.method for entry in entries)

    async with audit_trail(deliver) as trail:
        for method in ("first", "poison", "last"):
            trail.add(Entry(method=method))
        await wait_until(lambda: stored == ["first", "last"], timeout=60)


async def test_entries_wait_for_a_store_that_is_away() -> None:
    stored: list[str] = []
    back = asyncio.Event()

    async def deliver(entries: Sequence[Entry]) -> None:
        if not back.is_set():
            back.set()
            raise Failure(errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE, "away")
        stored.extend(entry.method for entry in entries)

    async with audit_trail(deliver) as trail:
        trail.add(Entry(method="kept"))
        await wait_until(lambda: stored == ["kept"], timeout=60)
