"""The account's newest session: chosen with the turn, once, whoever asks at the same time."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import session_service_pb2, turn_pb2, turn_service_pb2
from support.session_house import Client, SessionHouse, failure_of


async def enqueue(client: Client, **fields: Any) -> turn_pb2.Turn:
    return await client.enqueue("say hi", newest_session=True, **fields)


async def test_turns_of_an_account_go_on_in_its_newest_session(house: SessionHouse) -> None:
    client = house.client()
    first = await enqueue(client, account="team")
    second = await enqueue(client, account="team")
    assert second.session == first.session
    await client.finish(second)
    newer = await client.enqueue("say hi", account="team")
    assert newer.session != first.session
    assert (await enqueue(client, account="team")).session == newer.session
    assert (await enqueue(client, account="other")).session not in (first.session, newer.session)
    assert (await enqueue(house.client("foreign"), account="team")).session != newer.session


async def test_a_repeated_request_stays_in_the_session_that_it_was_given(house: SessionHouse) -> None:
    client = house.client()
    request_id = str(uuid.uuid4())
    first = await enqueue(client, request_id=request_id)
    newer = await client.enqueue("say hi")
    again = await enqueue(client, request_id=request_id)
    assert (again.name, again.session) == (first.name, first.session)
    assert newer.session != first.session


async def test_many_at_once_in_an_account_without_a_session_make_one(house: SessionHouse) -> None:
    clients = (house.client(), house.client(replica=-1))
    turns = await asyncio.gather(*(enqueue(clients[n % 2], account="fresh") for n in range(20)))
    assert len({turn.session for turn in turns}) == 1
    assert len({turn.name for turn in turns}) == 20


async def test_a_newest_session_that_is_deleted_is_nobodys_newest(house: SessionHouse) -> None:
    client = house.client()
    first = await enqueue(client)
    await client.finish(first)
    request = session_service_pb2.DeleteSessionRequest(name=first.session)
    await client.sessions.DeleteSession(request, metadata=client.metadata, timeout=60)
    assert (await enqueue(client)).session != first.session


async def find(client: Client, request: turn_service_pb2.EnqueueTurnRequest) -> turn_pb2.Turn | None:
    asked = turn_service_pb2.FindTurnRequest(request=request)
    answer = await client.turns.FindTurn(asked, metadata=client.metadata, timeout=60)
    return answer.turn if answer.HasField("turn") else None


async def test_the_turn_of_a_request_is_found_when_there_is_one(house: SessionHouse) -> None:
    client = house.client()
    request_id = str(uuid.uuid4())
    asked = turn_service_pb2.EnqueueTurnRequest(prompt="say hi", account="team", request_id=request_id)
    assert await find(client, asked) is None
    made = await client.enqueue("say hi", account="team", request_id=request_id, context="found before")
    found = await find(client, asked)
    assert found is not None
    assert found.name == made.name
    assert await find(house.client("foreign"), asked) is None
    asked.prompt = "say no"
    with pytest.raises(grpc.aio.AioRpcError) as reused:
        await find(client, asked)
    assert failure_of(reused.value).reason == errors_pb2.ERROR_REASON_REQUEST_ID_REUSED
