"""Followers of a turn: nothing twice, nothing missed, and nobody's slowness costs memory."""

from __future__ import annotations

import pytest
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2, turn_pb2
from runner.turns.turn_log import LogFull, TurnLog


def delta(text: str, offset: int, block: int = 0) -> event_pb2.Event:
    return event_pb2.Event(
        text_delta=event_pb2.TextDelta(text=text, message_id="m", block=block, offset=offset)
    )


def block(text: str, number: int = 0) -> event_pb2.Event:
    return event_pb2.Event(
        assistant_message=event_pb2.AssistantMessage(text=text, message_id="m", block=number)
    )


def finished() -> event_pb2.Event:
    return event_pb2.Event(turn_finished=turn_pb2.TurnFinished())


async def followed(log: TurnLog, after: int = 0) -> list[pb.RunTurnResponse]:
    return [item async for item in log.follow(after)]


async def test_kept_items_are_numbered_without_gaps_and_deltas_are_not() -> None:
    log = TurnLog("t", lambda _item: None)
    follower = log.follow(0)
    for event in (delta("a", 0), delta("b", 1)):
        log.append(event)
    live = [await anext(follower), await anext(follower)]
    log.append(block("ab"))
    log.append(finished())
    rest = [item async for item in follower]
    assert [item.index for item in live] == [0, 0]
    assert [item.index for item in rest] == [1, 2]


async def test_one_who_comes_late_gets_the_block_and_not_its_deltas() -> None:
    log = TurnLog("t", lambda _item: None)
    for event in (delta("a", 0), block("a"), delta("b", 0, block=1), finished()):
        log.append(event)
    kinds = [item.event.WhichOneof("kind") for item in await followed(log)]
    assert kinds == ["assistant_message", "text_delta", "turn_finished"]


async def test_one_who_is_behind_gets_the_rest_of_a_block_in_one_piece_before_it() -> None:
    log = TurnLog("t", lambda _item: None)
    follower = log.follow(0)
    log.append(delta("ä", 0))
    got = [await anext(follower)]
    for event in (
        delta("b", 1),
        delta("c", 2),
        block("äbc"),
        delta("d", 0, block=1),
        block("d", 1),
        finished(),
    ):
        log.append(event)
    got += [item async for item in follower]
    pieces = [item.event.text_delta for item in got if item.event.HasField("text_delta")]
    assert [(piece.block, piece.offset, piece.text) for piece in pieces] == [
        (0, 0, "ä"),
        (0, 1, "bc"),
        (1, 0, "d"),
    ]
    assert {piece.message_id for piece in pieces} == {"m"}
    kinds = [item.event.WhichOneof("kind") for item in got]
    assert kinds == [
        "text_delta",
        "text_delta",
        "assistant_message",
        "text_delta",
        "assistant_message",
        "turn_finished",
    ]
    assert [item.index for item in got] == [0, 0, 1, 0, 2, 3]


async def test_one_who_comes_in_the_middle_of_a_block_gets_all_of_it_so_far() -> None:
    log = TurnLog("t", lambda _item: None)
    log.append(block("before", 0))
    log.append(delta("a", 0, block=1))
    log.append(delta("b", 1, block=1))
    follower = log.follow(1)
    got = [await anext(follower), await anext(follower)]
    assert [item.event.text_delta.offset for item in got] == [0, 1]


async def test_after_an_index_comes_exactly_the_rest() -> None:
    log = TurnLog("t", lambda _item: None)
    for number in range(5):
        log.append(block(str(number), number))
    log.append(finished())
    for after in range(7):
        assert [item.index for item in await followed(log, after)] == list(range(after + 1, 7))


async def test_deltas_of_finished_blocks_take_no_memory() -> None:
    log = TurnLog("t", lambda _item: None)
    for number in range(50):
        for piece in range(100):
            log.append(delta("x" * 1000, piece * 1000, block=number))
        log.append(block("x", number))
    log.append(finished())
    assert len(await followed(log)) == 51


async def test_a_turn_that_says_too_much_is_full_but_can_still_end() -> None:
    log = TurnLog("t", lambda _item: None)
    with pytest.raises(LogFull):
        for number in range(1000):
            log.append(block("x" * 1_000_000, number))
    log.append(finished())
    items = await followed(log)
    assert items[-1].event.HasField("turn_finished")


async def test_nothing_comes_after_the_end() -> None:
    log = TurnLog("t", lambda _item: None)
    log.append(finished())
    log.append(block("late"))
    assert len(await followed(log)) == 1


async def test_a_quiet_turn_says_that_it_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.turns.turn_log.KEEP_ALIVE_SECONDS", 0.01)
    item = await anext(TurnLog("t", lambda _item: None).follow(0))
    assert item.event.HasField("keep_alive")
    assert item.index == 0
