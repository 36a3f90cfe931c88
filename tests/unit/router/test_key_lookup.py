"""Keys are looked up together, remembered for a second, and forgotten when they change."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from pointsman.errors.v1 import errors_pb2
from router.identity import key_lookup
from router.identity.key_lookup import KeyLookup
from router.store.keys import KeyRow
from servicekit.errors import Failure


def row(key_id: str, **fields: Any) -> KeyRow:
    texts: dict[str, Any] = dict.fromkeys(
        ("tenant", "title", "role", "scopes", "account", "creator", "creator_tenant", "request_id"), ""
    )
    return KeyRow(id=key_id, digest=b"", create_time=1, expire_time=0, **texts, **fields)


class Store:
    """Keys in memory; each question waits for `open`."""

    def __init__(self, *keys: str) -> None:
        self.keys = {key: row(key) for key in keys}
        self.asked: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failure: Failure | None = None

    async def by_ids(self, key_ids: Collection[str]) -> Mapping[str, KeyRow]:
        self.asked.append(list(key_ids))
        if self.failure:
            raise self.failure
        found = {key: self.keys[key] for key in key_ids if key in self.keys}
        await self.open.wait()
        return found


@pytest.fixture
def now() -> list[float]:
    return [0.0]


def lookup_of(store: Store, now: list[float]) -> KeyLookup:
    return KeyLookup(store, clock=lambda: now[0])  # type: ignore[arg-type]


async def test_a_flood_of_made_up_keys_is_a_handful_of_questions(now: list[float]) -> None:
    store = Store("good")
    lookup = lookup_of(store, now)
    found = await asyncio.gather(*(lookup.find(f"made-up-{n}") for n in range(2000)), lookup.find("good"))
    assert [one.id for one in found if one] == ["good"]
    assert len(store.asked) <= 2 + 2000 // key_lookup._ASKED_AT_ONCE
    assert max(len(asked) for asked in store.asked) <= key_lookup._ASKED_AT_ONCE


async def test_what_is_there_and_what_is_not_are_both_remembered_for_a_second(now: list[float]) -> None:
    store = Store("good")
    lookup = lookup_of(store, now)
    for _ in range(3):
        assert await lookup.find("good")
        assert await lookup.find("bad") is None
    assert store.asked == [["good"], ["bad"]]
    now[0] = 1.1
    store.keys["bad"] = row("bad")
    assert await lookup.find("bad")


async def test_guesses_do_not_push_keys_out(now: list[float]) -> None:
    store = Store("good")
    lookup = lookup_of(store, now)
    await lookup.find("good")
    await asyncio.gather(*(lookup.find(f"made-up-{n}") for n in range(key_lookup._REMEMBERED + 10)))
    asked = len(store.asked)
    await lookup.find("good")
    assert len(store.asked) == asked
    assert len(lookup._missing) == key_lookup._REMEMBERED


async def test_a_key_that_changes_while_it_is_read_is_read_again(now: list[float]) -> None:
    store = Store("good")
    lookup = lookup_of(store, now)
    store.open.clear()
    reading = asyncio.create_task(lookup.find("good"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    store.keys["good"] = row("good", revoke_time=5)
    lookup.forget("good")
    store.open.set()
    await reading
    found = await lookup.find("good")
    assert found is not None
    assert found.revoke_time == 5


async def test_who_waits_is_told_when_the_database_is_away_and_asks_again(now: list[float]) -> None:
    store = Store("good")
    lookup = lookup_of(store, now)
    store.failure = Failure(errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE, "Away.")
    with pytest.raises(Failure, match="DATABASE_UNAVAILABLE"):
        await lookup.find("good")
    store.failure = None
    assert await lookup.find("good")


async def test_one_who_goes_away_takes_the_answer_from_nobody(now: list[float]) -> None:
    store = Store("good")
    lookup = lookup_of(store, now)
    store.open.clear()
    first, second = (asyncio.create_task(lookup.find("good")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    store.open.set()
    found = await second
    assert found is not None
