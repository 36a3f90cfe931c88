"""Streams of events: every logged event once and in order, whatever breaks."""

from __future__ import annotations

import asyncio
import os
import random

import grpc.aio
import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, session_service_pb2
from servicekit.testing import wait_until
from support.session_house import SessionHouse, failure_of

# A client that comes back a thousand times is waited for at full size only.
RECONNECTS = 1000 if os.environ.get("CHAOS_FULL") == "1" else 200


def logged(events: list[event_pb2.Event]) -> list[bytes]:
    return [event.SerializeToString() for event in events if event.sequence]


async def test_reconnecting_at_random_points_gives_the_identical_transcript(house: SessionHouse) -> None:
    client, other = house.client(), house.client(replica=-1)
    turn = await client.enqueue("chatter 60 1")
    chance = random.Random(7)
    cursor, seen = 0, list[event_pb2.Event]()
    connections = 0
    while not (seen and seen[-1].HasField("turn_finished")):
        connections += 1
        # Some leave after a few events, some in the middle of a block, some at once.
        leave_after = chance.randint(0, 9)
        async for event in chance.choice((client, other)).watch(turn.session, cursor):
            if event.sequence:
                seen.append(event)
                cursor = event.sequence
            leave_after -= 1
            if leave_after < 0 or event.HasField("turn_finished"):
                break
    assert connections > 5
    whole = await client.events(turn.session)
    assert logged(seen) == logged(whole)
    for _ in range(RECONNECTS):
        after = chance.randint(0, len(whole) - 1)
        rest = [event async for event in other.watch(turn.session, after, turn=turn.name)]
        assert logged(rest) == logged(whole[after:])


async def test_who_joins_in_the_middle_of_a_block_gets_it_from_the_beginning(one: SessionHouse) -> None:
    house, client = one, one.client()
    turn = await client.enqueue("spell abcdefgh")
    early: list[event_pb2.Event] = []

    async def watch_early() -> None:
        async for event in client.watch(turn.session, turn=turn.name):
            early.append(event)  # noqa: PERF401 - looked at while it grows

    watching = asyncio.create_task(watch_early())
    await wait_until(lambda: text_of(early) == "abcd")
    late: list[event_pb2.Event] = []
    async for event in client.watch(turn.session, turn=turn.name):
        late.append(event)
        if event.HasField("text_delta"):
            house.runner.turns[turn.name].released.set()
    await watching
    first = next(event.text_delta for event in late if event.HasField("text_delta"))
    assert (first.text, first.offset) == ("abcd", 0)
    assert text_of(late) == text_of(early) == "abcdefgh"
    assert logged(late) == logged(early)


def text_of(events: list[event_pb2.Event]) -> str:
    text = ""
    for event in events:
        if event.HasField("text_delta"):
            text = text[: event.text_delta.offset] + event.text_delta.text
    return text


async def test_a_slow_watcher_blocks_nobody_and_loses_no_logged_event(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("chatter 200 8000")
    request = session_service_pb2.WatchEventsRequest(session=turn.session, turn=turn.name)
    slow = client.sessions.WatchEvents(request, metadata=client.metadata, timeout=60)
    answers = aiter(slow)
    first = await anext(answers)
    # Nobody reads the slow stream meanwhile, and there is far more than fits into a connection.
    fast = [event async for event in client.watch(turn.session, turn=turn.name)]
    rest = [first.event] + [answer.event async for answer in answers]
    assert logged(rest) == logged(fast) == logged(await client.events(turn.session))


async def test_a_quiet_stream_says_that_it_is_alive(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("say hi")
    await client.finish(turn)
    async for event in client.watch(turn.session, after=(await client.session(turn.session)).last_sequence):
        assert event.HasField("keep_alive")
        assert event.sequence == 0
        break


async def test_watching_a_turn_that_is_over_ends_by_itself(house: SessionHouse) -> None:
    client = house.client()
    first = await client.enqueue("say one")
    await client.finish(first)
    second = await client.enqueue("say two", first.session)
    await client.finish(second)
    only = [event async for event in client.watch(first.session, turn=second.name)]
    assert {event.turn for event in only} == {second.name}
    done = await client.turn(second.name)
    assert [event async for event in client.watch(first.session, done.last_sequence, second.name)] == []


async def test_cursors_that_cannot_be_are_refused(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("say hi")
    await client.finish(turn)
    other = await client.enqueue("say hi", account="other")
    await client.finish(other)
    last = (await client.session(turn.session)).last_sequence

    async def refused(session: str, after: int, of_turn: str = "") -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in client.watch(session, after, of_turn):
                pass
        return caught.value

    ahead = await refused(turn.session, last + 1)
    assert ahead.code() == grpc.StatusCode.OUT_OF_RANGE
    assert failure_of(ahead).reason == errors_pb2.ERROR_REASON_CURSOR_AHEAD
    assert failure_of(ahead).metadata["last_sequence"] == str(last)
    assert (await refused(turn.session, -1)).code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (await refused(turn.session, 0, other.name)).code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (await refused(turn.session, 0, "nonsense")).code() == grpc.StatusCode.INVALID_ARGUMENT
    missing = turn.session.replace("sessions/", "sessions/")[:-12] + "0" * 12
    assert failure_of(await refused(missing, 0)).reason == errors_pb2.ERROR_REASON_SESSION_NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.events(turn.session, last + 1)
    assert failure_of(caught.value).reason == errors_pb2.ERROR_REASON_CURSOR_AHEAD
