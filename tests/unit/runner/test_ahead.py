"""Text that goes past the agent: exactly once, in the agent's order, whatever the agent says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from claude_agent_sdk import AssistantMessage, StreamEvent, TextBlock
from hypothesis import given
from hypothesis import strategies as st
from pointsman.session.v1 import event_pb2
from runner.agent.ahead import _WAITING as WAITING
from runner.agent.ahead import Ahead
from runner.agent.translate import TranslateState, translate


class Turn:
    """A turn as its listener has it: what the agent tells and what goes past it come out in one row."""

    def __init__(self) -> None:
        self.state = TranslateState()
        self.said: list[event_pb2.Event] = []
        self.ahead = Ahead(self.state, self.said.append)

    def tells(self, kind: str, parent: str | None = None, **data: Any) -> None:
        self._hears(StreamEvent("u", "s", {"type": kind, **data}, parent))

    def starts(self, message_id: str = "m", parent: str | None = None) -> None:
        self.tells("message_start", parent, message={"id": message_id})

    def copies(self, text: str, block: int = 0, parent: str | None = None) -> None:
        delta = {"type": "text_delta", "text": text}
        self.tells("content_block_delta", parent, index=block, delta=delta)

    def finishes(self, text: str, message_id: str = "m") -> None:
        self._hears(AssistantMessage([TextBlock(text)], "model", message_id=message_id))

    def _hears(self, message: object) -> None:
        self.said += translate(message, self.state)
        self.ahead.heard(message)

    @property
    def pieces(self) -> list[tuple[int, int, str]]:
        """Block, offset and text of each piece; of a whole block -1 in the place of its offset."""
        found = []
        for event in self.said:
            if event.HasField("text_delta"):
                delta = event.text_delta
                found.append((delta.block, delta.offset, delta.text))
            elif event.HasField("assistant_message"):
                found.append((event.assistant_message.block, -1, event.assistant_message.text))
        return found


def test_once_the_agent_has_begun_to_tell_of_a_message_its_text_goes_ahead() -> None:
    turn = Turn()
    call = turn.ahead.call()
    call.begin("m")
    call.piece(0, "text", "one ")
    assert turn.pieces == []
    turn.starts()
    call.piece(0, "text", "two ")
    assert turn.pieces == [(0, 0, "one "), (0, 4, "two ")]
    for copy in ("one ", "two "):
        turn.copies(copy)
    turn.finishes("one two ")
    assert turn.pieces[2:] == [(0, -1, "one two ")]


def test_a_block_waits_until_the_agent_is_through_with_the_one_before() -> None:
    turn = Turn()
    call = turn.ahead.call()
    call.begin("m")
    turn.starts()
    call.piece(0, "text", "a")
    call.piece(1, "text", "b")
    turn.copies("a")
    turn.finishes("a")
    turn.tells("content_block_stop", index=0)
    call.piece(1, "text", "c")
    assert turn.pieces == [(0, 0, "a"), (0, -1, "a")]
    turn.tells("content_block_start", index=1)
    call.piece(1, "text", "d")
    assert turn.pieces[2:] == [(1, 0, "bc"), (1, 2, "d")]


def test_what_did_not_go_ahead_comes_with_the_agents_copy() -> None:
    turn = Turn()
    call = turn.ahead.call()
    call.begin("m")
    turn.starts()
    call.piece(0, "text", "ab")
    call.end()
    turn.copies("a")
    turn.copies("bc")
    turn.copies("d")
    assert turn.pieces == [(0, 0, "ab"), (0, 2, "c"), (0, 3, "d")]


def test_what_the_agent_does_not_tell_of_is_no_part_of_the_conversation() -> None:
    turn = Turn()
    title, answer = turn.ahead.call(), turn.ahead.call()
    title.begin("title")
    answer.begin("m")
    turn.starts()
    title.piece(0, "text", "A title")
    answer.piece(0, "text", "An answer")
    title.end()
    assert turn.pieces == [(0, 0, "An answer")]


def test_a_sub_agents_text_is_told_as_the_sub_agents() -> None:
    turn = Turn()
    own, sub = turn.ahead.call(), turn.ahead.call()
    own.begin("m")
    sub.begin("s")
    turn.starts()
    turn.starts("s", "tool")
    sub.piece(0, "text", "sub")
    own.piece(0, "text", "own")
    turn.copies("sub", parent="tool")
    assert [(event.text_delta.text, event.parent_tool_use_id) for event in turn.said] == [
        ("sub", "tool"),
        ("own", ""),
    ]


def test_thinking_goes_ahead_as_thinking() -> None:
    turn = Turn()
    call = turn.ahead.call()
    call.begin("m")
    turn.starts()
    call.piece(0, "thinking", "hm")
    assert [event.thinking_delta.thinking for event in turn.said] == ["hm"]


@pytest.mark.parametrize("announced", ["other", "", 7, None, "m" * 1000])
def test_an_agent_that_tells_of_a_message_that_is_none_gets_nothing_ahead(announced: Any) -> None:
    turn = Turn()
    call = turn.ahead.call()
    call.begin("m")
    turn.starts(announced)
    turn.tells("content_block_start", index=0)
    call.piece(0, "text", "secret")
    turn.copies("told")
    assert turn.pieces == [(0, 0, "told")]


def test_an_agent_that_tells_of_a_message_twice_gets_it_once_and_as_it_said_first() -> None:
    turn = Turn()
    call = turn.ahead.call()
    call.begin("m")
    turn.starts()
    turn.starts()
    call.piece(0, "text", "a")
    turn.starts("m", "tool")
    call.piece(0, "text", "b")
    turn.copies("a")
    assert turn.pieces == [(0, 0, "a"), (0, 1, "b")]
    assert all(not event.parent_tool_use_id for event in turn.said)


def test_an_agent_that_tells_of_a_block_out_of_turn_gets_nothing_twice() -> None:
    turn = Turn()
    call = turn.ahead.call()
    call.begin("m")
    turn.starts()
    call.piece(0, "text", "a")
    turn.finishes("a")
    turn.tells("content_block_start", index=0)
    call.piece(0, "text", "b")
    odds: list[Any] = [-1, 1 << 40, "0", None, []]
    for odd in odds:
        turn.tells("content_block_start", index=odd)
        call.piece(0, "text", "c")
    assert turn.pieces == [(0, 0, "a"), (0, -1, "a")]


def test_a_message_whose_answer_was_cut_goes_no_further_when_the_agent_tells_of_another() -> None:
    turn = Turn()
    cut, again = turn.ahead.call(), turn.ahead.call()
    cut.begin("m")
    turn.starts()
    cut.piece(0, "text", "half")
    again.begin("n")
    turn.starts("n")
    cut.piece(0, "text", " more")
    again.piece(0, "text", "whole")
    assert [(event.text_delta.message_id, event.text_delta.text) for event in turn.said] == [
        ("m", "half"),
        ("n", "whole"),
    ]


def test_two_answers_with_one_id_cannot_be_told_apart_and_stay_behind() -> None:
    turn = Turn()
    one, two = turn.ahead.call(), turn.ahead.call()
    one.begin("m")
    two.begin("m")
    turn.starts()
    one.piece(0, "text", "one")
    two.piece(0, "text", "two")
    turn.copies("two")
    assert turn.pieces == [(0, 0, "two")]


def test_what_waits_for_an_agent_that_never_comes_is_bounded() -> None:
    turn = Turn()
    call = turn.ahead.call()
    call.begin("m")
    for _ in range(3):
        call.piece(0, "text", "x" * WAITING)
    turn.starts()
    call.piece(0, "text", "y")
    assert turn.pieces == []
    turn.copies("x" * 10)
    assert turn.pieces == [(0, 0, "x" * 10)]


def test_a_model_that_goes_back_to_a_block_is_left_to_the_agent() -> None:
    turn = Turn()
    call = turn.ahead.call()
    call.begin("m")
    turn.starts()
    call.piece(0, "text", "a")
    turn.tells("content_block_start", index=1)
    call.piece(1, "text", "b")
    call.piece(0, "text", "c")
    call.piece(1, "text", "d")
    call.piece(2, "text", "e")
    assert turn.pieces == [(0, 0, "a"), (1, 0, "b")]


BLOCKS = st.lists(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4), min_size=1, max_size=3)


def agents_steps(turn: Turn, blocks: list[list[str]]) -> Iterator[tuple[int, Callable[[], None]]]:
    """Yield what the agent tells, each with the number of pieces that the model must have said before."""
    said = 0
    yield said, turn.starts
    for block, texts in enumerate(blocks):
        yield said, partial(turn.tells, "content_block_start", index=block)
        for text in texts:
            said += 1
            yield said, partial(turn.copies, text, block)
        yield said, partial(turn.finishes, "".join(texts))
        yield said, partial(turn.tells, "content_block_stop", index=block)


@given(BLOCKS, st.data())
def test_however_far_the_agent_is_behind_a_watcher_gets_each_block_once_and_in_order(
    blocks: list[list[str]], data: st.DataObject
) -> None:
    turn = Turn()
    call = turn.ahead.call()
    call.begin("m")
    model = [(block, text) for block, texts in enumerate(blocks) for text in texts]
    said = 0
    for needed, step in agents_steps(turn, blocks):
        while said < needed or (said < len(model) and data.draw(st.booleans())):
            block, text = model[said]
            call.piece(block, "text", text)
            said += 1
        if said == len(model) and data.draw(st.booleans()):
            call.end()
        step()
    whole: list[str] = []
    text = ""
    for block, offset, piece in turn.pieces:
        assert block == len(whole)
        if offset < 0:
            assert text == piece
            whole.append(piece)
            text = ""
        else:
            assert offset == len(text)
            text += piece
    assert whole == ["".join(texts) for texts in blocks]
