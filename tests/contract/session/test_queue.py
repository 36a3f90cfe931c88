"""The queue: editing, moving, and who is served when the machine is full."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import session_service_pb2, turn_pb2
from support.session_house import Client, SessionHouse, failure_of, session_house


async def update(client: Client, name: str, request_id: str = "", **fields: Any) -> turn_pb2.Turn:
    request = session_service_pb2.UpdateTurnRequest(
        turn=turn_pb2.Turn(name=name, **fields),
        update_mask=FieldMask(paths=list(fields)),
        request_id=request_id,
    )
    return (await client.sessions.UpdateTurn(request, metadata=client.metadata, timeout=60)).turn


async def running(client: Client, prompt: str = "wait", **fields: Any) -> turn_pb2.Turn:
    turn = await client.enqueue(prompt, **fields)
    async for event in client.watch(turn.session, turn=turn.name):
        if event.HasField("tool_use"):
            break
    return turn


async def test_a_queued_turn_can_be_edited(house: SessionHouse) -> None:
    client = house.client()
    first = await running(client)
    second = await client.enqueue("say old", first.session)
    options = turn_pb2.TurnOptions(max_turns=3)
    edited = await update(client, second.name, prompt="say new", model="demo/other", options=options)
    assert (edited.prompt, edited.model, edited.options.max_turns) == ("say new", "demo/other", 3)
    assert edited.options.timeout.seconds == 3600
    house.runner.turns[first.name].released.set()
    assert (await client.finish(second)).result == "new"
    assert house.runner.requests[-1].model == "demo/other"
    told = [
        event.turn_updated for event in await client.events(first.session) if event.HasField("turn_updated")
    ]
    assert [list(event.fields) for event in told] == [["prompt", "model", "options"]]


async def test_queued_turns_can_be_moved_within_their_session(house: SessionHouse) -> None:
    client = house.client()
    first = await running(client)
    waiting = [await client.enqueue(f"say {n}", first.session) for n in range(4)]
    assert (await update(client, waiting[3].name, position=1)).position == 1
    assert (await update(client, waiting[0].name, position=4)).position == 4
    for wrong in (0, 5, -1):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await update(client, waiting[0].name, position=wrong)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    house.runner.turns[first.name].released.set()
    for turn in waiting:
        await client.finish(turn)
    starts = [name for _, step, name in house.runner.journal if step == "start"]
    assert starts == [first.name, waiting[3].name, waiting[1].name, waiting[2].name, waiting[0].name]


async def test_a_turn_that_runs_or_is_over_cannot_be_edited(house: SessionHouse) -> None:
    client = house.client()
    turn = await running(client)
    for state in ("RUNNING", "SUCCEEDED"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await update(client, turn.name, prompt="say other")
        failure = failure_of(caught.value)
        assert failure.reason == errors_pb2.ERROR_REASON_TURN_NOT_QUEUED
        assert failure.metadata["state"] == state
        house.runner.turns[turn.name].released.set()
        await client.finish(turn)
    assert (await client.turn(turn.name)).prompt == "wait"


async def test_a_repeated_edit_is_harmless_even_when_the_turn_runs(house: SessionHouse) -> None:
    client = house.client()
    first = await running(client)
    second = await client.enqueue("say old", first.session)
    request_id = str(uuid.uuid4())
    await update(client, second.name, request_id, prompt="say new")
    house.runner.turns[first.name].released.set()
    await client.finish(second)
    assert (await update(client, second.name, request_id, prompt="say new")).prompt == "say new"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await update(client, second.name, request_id, prompt="say newer")
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_REQUEST_ID_REUSED


async def test_bad_edits_are_refused_and_change_nothing(house: SessionHouse) -> None:
    client = house.client()
    first = await running(client)
    second = await client.enqueue("say old", first.session)
    for fields in ({"prompt": ""}, {"account": "other"}, {}, {"prompt": "x" * (1024 * 1024 + 1)}):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await update(client, second.name, **fields)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await update(client, second.name, model="no/such")
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_MODEL_UNKNOWN
    assert (await client.turn(second.name)).prompt == "say old"


@pytest.fixture
async def narrow(tmp_path: Path, database_url: str) -> AsyncIterator[SessionHouse]:
    """One place only."""
    async with session_house(tmp_path, database_url, max_running_turns=1) as running_house:
        yield running_house


async def test_a_flooding_tenant_does_not_starve_another(narrow: SessionHouse) -> None:
    flood, other = narrow.client("flood"), narrow.client("other")
    first = await running(flood)
    floods = [await flood.enqueue(f"say {n}", account=f"a{n % 7}") for n in range(20)]
    mine = [await other.enqueue(f"say {n}", account="mine") for n in range(3)]
    narrow.runner.turns[first.name].released.set()
    for turn in mine:
        await other.finish(turn)
    for turn in floods:
        await flood.finish(turn)
    starts = [name for _, step, name in narrow.runner.journal if step == "start"]
    # Tenants take turns: each of the three waits for one of the flood at most.
    assert [starts.index(turn.name) for turn in mine] == [1, 3, 5]


async def test_accounts_of_a_tenant_take_turns(narrow: SessionHouse) -> None:
    client = narrow.client()
    first = await running(client, account="z")
    flood = [await client.enqueue(f"say {n}", account="flood") for n in range(6)]
    calm = [await client.enqueue(f"say {n}", account="calm") for n in range(2)]
    narrow.runner.turns[first.name].released.set()
    await asyncio.gather(*(client.finish(turn) for turn in [*flood, *calm]))
    starts = [name for _, step, name in narrow.runner.journal if step == "start"]
    assert max(starts.index(turn.name) for turn in calm) <= 4


async def test_an_account_may_run_several_sessions_when_it_is_allowed_to(
    tmp_path: Path, database_url: str
) -> None:
    async with session_house(tmp_path, database_url, max_concurrent_turns=2) as house:
        client = house.client()
        turns = [await client.enqueue("wait") for _ in range(3)]
        for turn in turns[:2]:
            async for event in client.watch(turn.session, turn=turn.name):
                if event.HasField("tool_use"):
                    break
        assert (await client.turn(turns[2].name)).state == turn_pb2.TURN_STATE_QUEUED
        house.runner.turns[turns[0].name].released.set()
        async for event in client.watch(turns[2].session, turn=turns[2].name):
            if event.HasField("tool_use"):
                break
