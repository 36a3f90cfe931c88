"""A request id that another account used tells a caller of one account nothing."""

from __future__ import annotations

import uuid
from typing import Any

import grpc.aio
import pytest
from pointsman.session.v1 import session_service_pb2, turn_service_pb2
from support.session_house import SessionHouse


async def enqueue(client: Any, account: str, prompt: str, request_id: str) -> Any:
    request = turn_service_pb2.EnqueueTurnRequest(account=account, prompt=prompt, request_id=request_id)
    return await client.turns.EnqueueTurn(request, metadata=client.metadata, timeout=60)


async def create(client: Any, account: str, title: str, request_id: str) -> Any:
    request = session_service_pb2.CreateSessionRequest(
        account=account, request_id=request_id, session=session_service_pb2.Session(title=title)
    )
    return (await client.sessions.CreateSession(request, metadata=client.metadata, timeout=60)).session


@pytest.mark.parametrize("prompt", ["hello", "something else"])
async def test_a_turns_id_of_another_account_is_free(house: SessionHouse, prompt: str) -> None:
    alice, bob = house.client(account="alice"), house.client(account="bob")
    used = str(uuid.uuid4())
    hers = (await enqueue(alice, "alice", "hello", used)).turn
    his = (await enqueue(bob, "bob", prompt, used)).turn
    assert (his.account, his.prompt, his.request_id) == ("bob", prompt, used)
    assert his.session != hers.session
    assert (await enqueue(bob, "bob", prompt, used)).turn.name == his.name
    assert (await enqueue(alice, "alice", "hello", used)).turn.name == hers.name


async def test_a_sessions_id_of_another_account_is_free(house: SessionHouse) -> None:
    alice, bob = house.client(account="alice"), house.client(account="bob")
    used = str(uuid.uuid4())
    hers = await create(alice, "alice", "mine", used)
    his = await create(bob, "bob", "other", used)
    assert his.name != hers.name
    assert (await create(bob, "bob", "other", used)).name == his.name


async def test_in_ones_own_account_another_body_is_refused(house: SessionHouse) -> None:
    alice = house.client(account="alice")
    used = str(uuid.uuid4())
    await enqueue(alice, "alice", "hello", used)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await enqueue(alice, "alice", "something else", used)
    assert raised.value.code() == grpc.StatusCode.ALREADY_EXISTS
