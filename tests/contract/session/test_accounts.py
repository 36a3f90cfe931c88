"""Accounts: how many of their turns run at once."""

from __future__ import annotations

from collections.abc import Awaitable

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import account_service_pb2, turn_pb2
from servicekit.testing import wait_until
from support.session_house import Client, SessionHouse, failure_of

Account = account_service_pb2.Account


async def get(client: Client, account: str) -> Account:
    request = account_service_pb2.GetAccountRequest(name=f"accounts/{account}")
    return (await client.accounts.GetAccount(request, metadata=client.metadata, timeout=60)).account


async def limit(
    client: Client, account: str, turns: int, paths: tuple[str, ...] = ("max_concurrent_turns",)
) -> Account:
    changed = Account(name=f"accounts/{account}", max_concurrent_turns=turns)
    request = account_service_pb2.UpdateAccountRequest(account=changed, update_mask=FieldMask(paths=paths))
    return (await client.accounts.UpdateAccount(request, metadata=client.metadata, timeout=60)).account


async def page(
    client: Client, page_size: int = 0, token: str = ""
) -> account_service_pb2.ListAccountsResponse:
    request = account_service_pb2.ListAccountsRequest(page_size=page_size, page_token=token)
    return await client.accounts.ListAccounts(request, metadata=client.metadata, timeout=60)


async def refused(call: Awaitable[object]) -> errors_pb2.ErrorReason.ValueType:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return failure_of(caught.value).reason


async def test_a_limit_that_rises_lets_turns_that_wait_begin_at_once(house: SessionHouse) -> None:
    client, other = house.client(), house.client(replica=-1)
    turns = [await client.enqueue("wait", account="busy") for _ in range(4)]
    await wait_until(lambda: len(house.runner.turns) == 1, 60)
    before = await get(other, "busy")
    assert (before.max_concurrent_turns, before.effective_max_concurrent_turns) == (0, 1)
    assert (before.running_turns, before.queued_turns) == (1, 3)
    after = await limit(other, "busy", 3)
    assert (after.max_concurrent_turns, after.effective_max_concurrent_turns) == (3, 3)
    await wait_until(lambda: len(house.runner.turns) == 3, 60)
    assert (await client.turn(turns[3].name)).state == turn_pb2.TURN_STATE_QUEUED
    for turn in turns:
        await client.cancel(turn.name)


async def test_a_limit_that_falls_lets_turns_that_run_go_on(house: SessionHouse) -> None:
    client = house.client()
    await limit(client, "busy", 2)
    turns = [await client.enqueue("wait", account="busy") for _ in range(3)]
    await wait_until(lambda: len(house.runner.turns) == 2, 60)
    # 0 is the installation's, which is 1.
    assert (await limit(client, "busy", 0)).effective_max_concurrent_turns == 1
    first, second = list(house.runner.turns.values())
    first.released.set()
    await client.finish(next(turn for turn in turns if turn.name == first.name))
    account = await get(client, "busy")
    assert (account.running_turns, account.queued_turns) == (1, 1)
    second.released.set()
    await wait_until(lambda: len(house.runner.turns) == 3, 60)
    await client.cancel(turns[2].name)


async def test_an_account_is_there_once_it_is_named_and_listed_once_it_was_used(house: SessionHouse) -> None:
    client = house.client()
    unused = await get(client, "Nobody")
    assert (unused.name, unused.effective_max_concurrent_turns) == ("accounts/nobody", 1)
    assert list((await page(client)).accounts) == []
    await client.create("beta")
    await limit(client, "Alpha", 5)
    await client.finish(await client.enqueue("say hi", account="gamma"))
    first = await page(client, page_size=2)
    rest = await page(client, page_size=2, token=first.next_page_token)
    names = [account.name for account in (*first.accounts, *rest.accounts)]
    assert names == ["accounts/alpha", "accounts/beta", "accounts/gamma"]
    assert rest.next_page_token == ""
    assert list((await page(house.client(tenant="evil"))).accounts) == []


async def test_a_pinned_credential_sees_its_own_account_only(house: SessionHouse) -> None:
    await limit(house.client(), "theirs", 4)
    pinned = house.client(account="own")
    assert (await get(pinned, "own")).name == "accounts/own"
    assert list((await page(pinned)).accounts) == []
    assert await refused(get(pinned, "theirs")) == errors_pb2.ERROR_REASON_ACCOUNT_PINNED
    assert await refused(limit(pinned, "theirs", 1)) == errors_pb2.ERROR_REASON_ACCOUNT_PINNED
    await limit(pinned, "own", 2)
    assert [account.name for account in (await page(pinned)).accounts] == ["accounts/own"]
    # Another tenant's account of the same name is another account.
    assert (await get(house.client(tenant="evil"), "theirs")).max_concurrent_turns == 0


@pytest.mark.parametrize(
    ("account", "turns", "paths"),
    [
        ("a", -1, ("max_concurrent_turns",)),
        ("a", 1001, ("max_concurrent_turns",)),
        ("a", 1, ()),
        ("a", 1, ("name",)),
        ("a", 1, ("max_concurrent_turns", "running_turns")),
        ("../a", 1, ("max_concurrent_turns",)),
        ("", 1, ("max_concurrent_turns",)),
    ],
)
async def test_what_is_no_limit_or_no_account_is_refused(
    one: SessionHouse, account: str, turns: int, paths: tuple[str, ...]
) -> None:
    reason = await refused(limit(one.client(), account, turns, paths))
    assert reason == errors_pb2.ERROR_REASON_INVALID_FIELD
