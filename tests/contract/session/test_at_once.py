"""Turns that run as soon as they are accepted: in the same transaction, when nothing is before them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pointsman.session.v1 import turn_pb2, turn_service_pb2
from servicekit.testing import wait_until
from support.session_house import Client, SessionHouse, session_house

QUEUED, RUNNING = turn_pb2.TURN_STATE_QUEUED, turn_pb2.TURN_STATE_RUNNING


async def idle(client: Client) -> str:
    """Run turns until the service has seen that nothing waits; return their session."""
    turn = await client.enqueue("say hello")
    await client.finish(turn)
    while turn.state != RUNNING:
        turn = await client.enqueue("say hello", turn.session)
        await client.finish(turn)
    return turn.session


def started(house: SessionHouse) -> list[str]:
    """Return the turns that the runner has begun, in that order."""
    return [name for _, step, name in house.runner.journal if step == "start"]


@pytest.fixture
async def narrow(tmp_path: Path, database_url: str) -> AsyncIterator[SessionHouse]:
    """Two places."""
    async with session_house(tmp_path, database_url, max_running_turns=2) as house:
        yield house


async def test_a_turn_with_nothing_before_it_runs_when_it_is_accepted(one: SessionHouse) -> None:
    client = one.client()
    session = await idle(client)
    turn = await client.enqueue("wait", session)
    assert (turn.state, turn.position) == (RUNNING, 0)
    assert turn.start_time == turn.create_time
    await wait_until(lambda: turn.name in one.runner.turns)
    one.runner.turns[turn.name].released.set()
    await client.finish(turn)
    mine = [event for event in await client.events(session) if event.turn == turn.name]
    assert [event.WhichOneof("kind") for event in mine][:2] == ["turn_queued", "turn_started"]
    assert [event.sequence for event in mine] == list(range(mine[0].sequence, mine[0].sequence + len(mine)))


async def test_the_next_ones_wait_for_it(one: SessionHouse) -> None:
    client = one.client()
    session = await idle(client)
    first = await client.enqueue("wait", session)
    second = await client.enqueue("say b", session)
    third = await client.enqueue("say c")
    assert [(turn.state, turn.position) for turn in (second, third)] == [(QUEUED, 1), (QUEUED, 2)]
    await wait_until(lambda: first.name in one.runner.turns)
    one.runner.turns[first.name].released.set()
    for turn in (second, third):
        await client.finish(turn)
    assert started(one)[-3:] == [first.name, second.name, third.name]


async def test_no_more_run_than_there_are_places_however_they_come(narrow: SessionHouse) -> None:
    client = narrow.client()
    await idle(client)
    turns = await asyncio.gather(*(client.enqueue("wait", account=f"a{n}") for n in range(12)))
    assert sum(turn.state == RUNNING for turn in turns) <= 2
    waiting = {turn.name for turn in turns}
    while waiting:
        await wait_until(lambda: len(waiting & set(started(narrow))) == min(2, len(waiting)))
        running = waiting & set(started(narrow))
        states = [turn for name in waiting if (turn := await client.turn(name)).state == RUNNING]
        assert {turn.name for turn in states} == running
        name = running.pop()
        narrow.runner.turns[name].released.set()
        await client.finish(await client.turn(name))
        waiting.discard(name)


async def test_a_turn_whose_caller_has_gone_away_runs_all_the_same(one: SessionHouse) -> None:
    client = one.client()
    session = await idle(client)
    for delay in range(20):
        request = turn_service_pb2.EnqueueTurnRequest(
            prompt="say hello", session=session, request_id=str(uuid.uuid4())
        )
        call = client.turns.EnqueueTurn(request, metadata=client.metadata, timeout=60)
        # Somewhere between its not having begun and its being over.
        await asyncio.wait([asyncio.ensure_future(call.wait_for_connection())], timeout=delay / 4000)
        call.cancel()
        find = turn_service_pb2.FindTurnRequest(request=request)
        found = await client.turns.FindTurn(find, metadata=client.metadata, timeout=60)
        if found.turn.name:
            assert (await client.finish(found.turn)).result == "hello"
    assert (await client.finish(await client.enqueue("say on", session))).result == "on"


async def test_a_session_that_is_held_for_its_files_runs_its_next_turn_afterwards(one: SessionHouse) -> None:
    client = one.client()
    session = await idle(client)
    for _ in range(3):
        # Its workspace is kept after it, and no turn changes it meanwhile.
        await client.finish(await client.enqueue("work", session))
    assert (await client.finish(await client.enqueue("say on", session))).result == "on"
