"""Pieces of text arrive once, however often and however cut they are sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pointsman.session.v1 import event_pb2
from pointsman_client.deltas import Deltas


def piece(text: str, offset: int, kind: str = "text") -> event_pb2.Event:
    if kind == "text":
        return event_pb2.Event(text_delta=event_pb2.TextDelta(text=text, message_id="m", offset=offset))
    return event_pb2.Event(
        thinking_delta=event_pb2.ThinkingDelta(thinking=text, message_id="m", offset=offset)
    )


@given(
    whole=st.text(min_size=1),
    resumptions=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 7)), max_size=5),
)
def test_what_goes_out_is_the_block(whole, resumptions):
    deltas = Deltas()
    out = ""
    for stop, width in [*resumptions, (len(whole), 3)]:
        # A stream sends the block from its beginning and breaks off at `stop`.
        for offset in range(0, min(stop, len(whole)), width):
            event = piece(whole[offset : min(offset + width, stop)], offset)
            if deltas.fresh(event):
                assert event.text_delta.offset == len(out)
                out += event.text_delta.text
    assert out == whole


def test_text_and_thinking_are_told_apart():
    deltas = Deltas()
    assert deltas.fresh(piece("abc", 0))
    assert deltas.fresh(piece("abc", 0, "thinking"))
    assert not deltas.fresh(piece("abc", 0))


def test_a_turn_that_starts_again_writes_anew():
    deltas = Deltas()
    assert deltas.fresh(piece("abc", 0))
    assert deltas.fresh(event_pb2.Event(turn_started=event_pb2.TurnStarted()))
    again = piece("xyz", 0)
    assert deltas.fresh(again)
    assert again.text_delta.text == "xyz"
