"""Who is served next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from session.queue.fairness import rotation
from session.storage.statements.accounts import Load


def load(
    tenant: str, account: str, queued: int, *, running: int = 0, limit: int = 0, served: int = 0
) -> Load:
    return Load(tenant, account, queued, running, limit, served, served)


def test_a_small_tenant_is_served_between_the_turns_of_a_large_one() -> None:
    loads = [load("big", f"a{n}", 50) for n in range(5)] + [load("small", "a", 3)]
    order = rotation(loads, 6, default_limit=9)
    assert [tenant for tenant, _ in order].count("small") == 3


def test_who_waited_longest_is_served_first() -> None:
    loads = [load("t", "new", 1, served=9), load("t", "old", 1, served=2), load("t", "never", 1)]
    assert [account for _, account in rotation(loads, 3, 1)] == ["never", "old", "new"]


def test_an_accounts_own_limit_goes_before_the_default() -> None:
    loads = [load("t", "wide", 9, limit=3), load("t", "usual", 9)]
    order = rotation(loads, 9, default_limit=1)
    assert sorted(account for _, account in order) == ["usual", "wide", "wide", "wide"]


accounts = st.tuples(
    st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 9), st.integers(0, 3), st.integers(0, 4)
)


@given(st.lists(accounts, unique_by=lambda row: row[:2]), st.integers(0, 12), st.integers(1, 3))
def test_nobody_is_served_beyond_a_limit_and_no_place_stays_empty_for_nothing(
    rows: list[tuple[str, str, int, int, int]], places: int, default: int
) -> None:
    loads = [
        load(tenant, account, queued, running=running, limit=limit)
        for tenant, account, queued, running, limit in rows
    ]
    order = rotation(loads, places, default)
    could = 0
    for of in loads:
        room = max((of.limit or default) - of.running, 0)
        assert order.count((of.tenant, of.account)) <= min(of.queued, room)
        could += min(of.queued, room)
    assert len(order) == min(places, could)
