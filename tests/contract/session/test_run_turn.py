"""RunTurn: one call that makes a turn and streams its events, from the first to the last."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, turn_pb2, turn_service_pb2
from servicekit.errors import Failure
from servicekit.testing import wait_until
from support.session_house import Client, SessionHouse

Event = event_pb2.Event


def request(prompt: str, session: str = "", **fields: Any) -> turn_service_pb2.EnqueueTurnRequest:
    fields.setdefault("request_id", str(uuid.uuid4()))
    return turn_service_pb2.EnqueueTurnRequest(prompt=prompt, session=session, **fields)


def begin(client: Client, asked: turn_service_pb2.EnqueueTurnRequest) -> Any:
    run = turn_service_pb2.RunTurnRequest(request=asked)
    return client.turns.RunTurn(run, metadata=client.metadata, timeout=60)


async def run(
    client: Client, asked: turn_service_pb2.EnqueueTurnRequest
) -> tuple[turn_pb2.Turn, list[Event]]:
    turn, *events = [answer async for answer in begin(client, asked)]
    assert turn.HasField("turn")
    return turn.turn, [answer.event for answer in events]


def logged(events: list[Event]) -> list[Event]:
    return [event for event in events if event.sequence]


async def test_the_stream_is_the_turn_and_then_what_is_logged_of_it(house: SessionHouse) -> None:
    for client in (house.client(), house.client(replica=-1)):
        turn, events = await run(client, request("say hello"))
        assert events[-1].turn_finished.result == "hello"
        mine = [event for event in await client.events(turn.session) if event.turn == turn.name]
        assert logged(events) == mine
        assert events[0].sequence == turn.first_sequence


async def test_text_comes_as_it_is_written(one: SessionHouse) -> None:
    call = begin(one.client(), request("spell hello"))
    turn = (await call.read()).turn
    pieces: list[event_pb2.TextDelta] = []
    whole = ""
    while not whole:
        event = (await call.read()).event
        if event.HasField("text_delta"):
            pieces.append(event.text_delta)
        if "".join(piece.text for piece in pieces) == "he":
            # The rest is not written before this is seen.
            one.runner.turns[turn.name].released.set()
        whole = event.assistant_message.text
    call.cancel()
    assert "".join(piece.text for piece in pieces) == whole == "hello"


async def test_turns_one_after_another_each_have_their_own_events(house: SessionHouse) -> None:
    client = house.client()
    first, _ = await run(client, request("say a"))
    for word in "bcdef":
        turn, events = await run(client, request(f"say {word}", first.session))
        assert {event.turn for event in logged(events)} == {turn.name}
        assert (events[0].WhichOneof("kind"), events[-1].turn_finished.result) == ("turn_queued", word)


async def test_one_that_waits_for_another_is_told_its_own_events_only(house: SessionHouse) -> None:
    client, other = house.client(), house.client(replica=-1)
    before = await client.enqueue("wait")
    waiting = asyncio.create_task(run(other, request("say on", before.session)))
    await wait_until(lambda: before.name in house.runner.turns)
    house.runner.turns[before.name].released.set()
    turn, events = await waiting
    assert {event.turn for event in events if not event.HasField("keep_alive")} == {turn.name}
    assert events[-1].turn_finished.result == "on"


async def test_the_same_request_again_gives_the_same_turn_from_its_first_event(house: SessionHouse) -> None:
    asked = request("say hello")
    first, events = await run(house.client(), asked)
    again, told_again = await run(house.client(replica=-1), asked)
    assert again.name == first.name
    assert told_again == logged(events)
    assert len(house.runner.journal) == 2


async def test_many_with_one_request_id_make_one_turn(house: SessionHouse) -> None:
    asked = request("say hello")
    clients = [house.client(replica=number % 2 - 1) for number in range(20)]
    runs = await asyncio.gather(*(run(client, asked) for client in clients))
    assert len({turn.name for turn, _ in runs}) == 1
    assert {events[-1].turn_finished.result for _, events in runs} == {"hello"}
    assert len({tuple(event.sequence for event in logged(events)) for _, events in runs}) == 1


async def test_a_refusal_comes_before_any_turn(house: SessionHouse) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await begin(house.client(), request("say hello", f"sessions/{uuid.uuid4()}")).read()
    reason = Failure.from_rpc_error(refused.value, "session").reason
    assert reason == errors_pb2.ERROR_REASON_SESSION_NOT_FOUND


async def test_a_caller_who_goes_away_stops_nothing_and_leaves_no_watcher(one: SessionHouse) -> None:
    client = one.client()
    session = (await run(client, request("say hello")))[0].session
    for delay in range(20):
        asked = request("say hello", session)
        call = begin(client, asked)
        # Somewhere between its not having begun and its being over.
        await asyncio.wait([asyncio.ensure_future(call.wait_for_connection())], timeout=delay / 4000)
        call.cancel()
        find = turn_service_pb2.FindTurnRequest(request=asked)
        found = await client.turns.FindTurn(find, metadata=client.metadata, timeout=60)
        if found.turn.name:
            assert (await client.finish(found.turn)).result == "hello"
    call = begin(client, request("wait", session))
    turn = (await call.read()).turn
    call.cancel()
    await wait_until(lambda: turn.name in one.runner.turns)
    one.runner.turns[turn.name].released.set()
    assert (await client.finish(turn)).outcome == turn_pb2.TURN_STATE_SUCCEEDED


async def test_a_stop_ends_the_stream_with_its_reason(one: SessionHouse) -> None:
    client = one.client()
    call = begin(client, request("wait"))
    turn = (await call.read()).turn
    await wait_until(lambda: turn.name in one.runner.turns)
    async with one.restarted():
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
                pass
        reason = Failure.from_rpc_error(ended.value, "session").reason
        assert reason == errors_pb2.ERROR_REASON_SERVICE_DRAINING
        one.runner.turns[turn.name].released.set()
        assert (await one.client().finish(turn)).outcome == turn_pb2.TURN_STATE_SUCCEEDED
