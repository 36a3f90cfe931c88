"""Everything that is stored fits into every response that returns it."""

from __future__ import annotations

from typing import Any

import pytest
from pointsman.session.v1 import session_service_pb2, turn_pb2
from servicekit.testing import wait_until
from support.session_house import SessionHouse

DIRECT = turn_pb2.TURN_ROUTE_DIRECT
# 48 pieces of 128 KiB are 6 MiB.
PROMPT = "much 48"


async def everything(client: Any, turn: turn_pb2.Turn) -> tuple[Any, Any, list[Any], list[Any]]:
    """The session, the turn, the events and the list of turns, by every method that returns them."""
    get = session_service_pb2.GetSessionRequest(name=turn.session)
    session = (await client.sessions.GetSession(get, metadata=client.metadata, timeout=60)).session
    one = session_service_pb2.GetTurnRequest(name=turn.name)
    got = (await client.sessions.GetTurn(one, metadata=client.metadata, timeout=60)).turn
    many = session_service_pb2.ListTurnsRequest(session=turn.session)
    turns = list((await client.sessions.ListTurns(many, metadata=client.metadata, timeout=60)).turns)
    events, token = [], ""
    while True:
        asked = session_service_pb2.ListEventsRequest(session=turn.session, page_token=token)
        page = await client.sessions.ListEvents(asked, metadata=client.metadata, timeout=60)
        events += page.events
        token = page.next_page_token
        if not token:
            return session, got, events, turns


async def test_an_answer_that_is_larger_than_a_message_is_readable(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue(PROMPT, route=DIRECT)
    watched = [event async for event in client.watch(turn.session, turn=turn.name)]
    session, got, events, turns = await everything(client, turn)
    result = watched[-1].turn_finished.result
    assert got.state == turn_pb2.TURN_STATE_SUCCEEDED
    assert got.result.result == turns[0].result.result == result
    assert "[truncated: 1048576 of " in result
    assert session.messages
    # The log has all of it, in several blocks.
    said = "".join(event.assistant_message.text for event in events)
    assert said.count("\u00e4") == 48 * 65536


async def test_what_an_older_version_stored_is_readable_again(
    house: SessionHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session.runs.writer.fit", lambda event, limit: event)
    monkeypatch.setattr("session.runs.direct._BLOCK_CHARACTERS", 1 << 30)
    client = house.client()
    turn = await client.enqueue(PROMPT, route=DIRECT)
    # Not watched: an older version's live events are not what is read here.
    asked = session_service_pb2.GetTurnRequest(name=turn.name)

    async def over() -> bool:
        answer = await client.sessions.GetTurn(asked, metadata=client.metadata, timeout=60)
        return bool(answer.turn.state == turn_pb2.TURN_STATE_SUCCEEDED)

    await wait_until(over, timeout=60)
    _, got, events, _ = await everything(client, turn)
    assert "[truncated: " in got.result.result
    assert any("[truncated: " in event.assistant_message.text for event in events)
