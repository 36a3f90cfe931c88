"""Watchers of a replica, without a database: what they are handed, joined, and told to read again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pointsman.session.v1 import event_pb2, turn_pb2
from session.events.blocks import Blocks
from session.events.hub import _MAX_ITEMS as MAX_ITEMS
from session.events.hub import Hub, Watcher

Event = event_pb2.Event


def logged(sequence: int) -> Event:
    return Event(sequence=sequence, tool_result=event_pb2.ToolResult(content="x"))


def delta(text: str, offset: int) -> Event:
    return Event(text_delta=event_pb2.TextDelta(text=text, message_id="m", offset=offset))


def live(watcher: Watcher) -> Watcher:
    watcher.catch_up()
    watcher.go_live()
    return watcher


def test_events_are_handed_over_once_and_in_order() -> None:
    hub = Hub()
    with hub.watching("s") as watcher:
        live(watcher)
        hub.publish("s", [logged(1), logged(2)])
        hub.publish("s", [logged(2), logged(3)])
        assert [event.sequence for event in watcher.take()] == [1, 2, 3]
        assert watcher.take() == []


def test_a_gap_sends_watchers_to_the_log() -> None:
    hub = Hub()
    with hub.watching("s") as watcher:
        live(watcher)
        hub.publish("s", [logged(1)])
        hub.publish("s", [logged(3)])
        assert watcher.behind
        assert watcher.wake.is_set()


def test_deltas_that_wait_are_joined() -> None:
    hub = Hub()
    with hub.watching("s") as watcher:
        live(watcher)
        for offset, letter in enumerate("abc"):
            hub.publish_delta("s", delta(letter, offset))
        hub.publish("s", [logged(1)])
        hub.publish_delta("s", delta("d", 3))
        taken = watcher.take()
        assert [event.text_delta.text for event in taken] == ["abc", "", "d"]
        assert [event.text_delta.offset for event in taken] == [0, 0, 3]


def test_a_watcher_that_takes_nothing_is_bounded_and_others_do_not_notice() -> None:
    hub = Hub()
    with hub.watching("s") as slow, hub.watching("s") as fast:
        live(slow)
        live(fast)
        for sequence in range(1, 2 * MAX_ITEMS):
            hub.publish("s", [logged(sequence)])
            assert [event.sequence for event in fast.take()] == [sequence]
        assert slow.behind
        assert slow.take() == []


def test_a_session_that_nobody_watches_is_forgotten() -> None:
    hub = Hub()
    hub.publish_delta("s", delta("a", 0))
    with hub.watching("s") as watcher:
        live(watcher)
        assert [event.text_delta.text for event in watcher.take()] == ["a"]
    finished = Event(sequence=1, turn_finished=turn_pb2.TurnFinished())
    hub.publish("s", [finished])
    assert not hub._topics


@given(st.text(min_size=1, max_size=12), st.data())
def test_pieces_sent_again_from_anywhere_make_the_same_text(text: str, data: st.DataObject) -> None:
    blocks, out, sent = Blocks(), "", 0
    while sent < len(text):
        offset = data.draw(st.integers(0, sent))
        end = data.draw(st.integers(sent + 1, len(text)))
        fresh = blocks.extend(delta(text[offset:end], offset))
        if fresh is not None:
            assert fresh.text_delta.offset == len(out)
            out += fresh.text_delta.text
        sent = max(sent, end)
    assert out == text
    assert [piece.text_delta.text for piece in blocks.snapshot()] == [text]


def test_a_missing_piece_is_not_papered_over() -> None:
    blocks = Blocks()
    assert blocks.extend(delta("a", 0)) is not None
    assert blocks.extend(delta("c", 2)) is None
