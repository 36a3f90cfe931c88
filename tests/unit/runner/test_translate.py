"""From the agent's messages, as the real one sent them, to events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import AssistantMessage, StreamEvent, TextBlock, ToolUseBlock
from claude_agent_sdk._internal.message_parser import parse_message
from hypothesis import given
from hypothesis import strategies as st
from pointsman.session.v1 import event_pb2
from runner.agent.translate import TranslateState, translate

RECORDED = Path(__file__).with_name("recorded_turn.jsonl").read_text().splitlines()


def replayed() -> list[event_pb2.Event]:
    state = TranslateState()
    messages = [parse_message(json.loads(line)) for line in RECORDED]
    return [event for message in messages for event in translate(message, state)]


def test_a_recorded_turn_becomes_its_events_in_order() -> None:
    kinds = [event.WhichOneof("kind") for event in replayed() if event.WhichOneof("kind") != "text_delta"]
    assert kinds == ["assistant_message", "tool_use", "tool_result", "assistant_message"]


def test_deltas_of_a_recorded_block_add_up_to_the_block_that_follows() -> None:
    text: dict[tuple[str, int], str] = {}
    for event in replayed():
        if event.HasField("text_delta"):
            delta = event.text_delta
            key = (delta.message_id, delta.block)
            assert delta.offset == len(text.get(key, ""))
            text[key] = text.get(key, "") + delta.text
        if event.HasField("assistant_message"):
            said = event.assistant_message
            assert text.pop((said.message_id, said.block)) == said.text
    assert text == {}


def test_blocks_of_one_message_are_numbered_through() -> None:
    state = TranslateState()
    blocks: list[Any] = [TextBlock("one"), ToolUseBlock("t", "Bash", {}), TextBlock("two")]
    events = [
        event
        for block in blocks
        for event in translate(AssistantMessage([block], "m", message_id="msg"), state)
    ]
    said = [event.assistant_message for event in events if event.HasField("assistant_message")]
    assert [(block.text, block.block) for block in said] == [("one", 0), ("two", 2)]


def streamed(kind: str, **data: Any) -> StreamEvent:
    return StreamEvent(uuid="u", session_id="s", event={"type": kind, **data})


@pytest.mark.parametrize("before", ["redacted_thinking", "text", "web_search_tool_result", "tool_use"])
def test_a_block_has_the_same_number_in_deltas_and_message_whatever_comes_before(before: str) -> None:
    state = TranslateState()
    events: list[event_pb2.Event] = []
    messages = [
        streamed("message_start", message={"id": "msg", "model": "m"}),
        streamed("content_block_start", index=0, content_block={"type": before}),
        # Of the block before, the SDK gives nothing, or a message without content.
        AssistantMessage([], "m", message_id="msg"),
        streamed("content_block_stop", index=0),
        streamed("content_block_start", index=1, content_block={"type": "text", "text": ""}),
        streamed("content_block_delta", index=1, delta={"type": "text_delta", "text": "Hi"}),
        AssistantMessage([TextBlock("Hi")], "m", message_id="msg"),
        streamed("content_block_stop", index=1),
    ]
    for message in messages:
        events += translate(message, state)
    delta, said = events
    assert (delta.text_delta.block, said.assistant_message.block) == (1, 1)


def test_long_strings_of_a_tools_input_are_cut() -> None:
    block = ToolUseBlock("t", "Write", {"content": "ä" * 100_000, "deep": {"list": ["x" * 100_000]}})
    (event,) = translate(AssistantMessage([block], "m"), TranslateState())
    kept: Any = event.tool_use.input
    cut = kept["content"]
    assert cut.endswith("…")
    assert len(cut.encode()) <= 64 * 1024
    assert kept["deep"]["list"][0].endswith("…")


def test_an_input_of_many_long_strings_still_fits_into_an_event() -> None:
    block = ToolUseBlock("t", "Write", {f"key{number}": "x" * 60_000 for number in range(200)})
    (event,) = translate(AssistantMessage([block], "m"), TranslateState())
    assert event.ByteSize() < 1_100_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(JSON)
def test_whatever_a_stream_event_holds_translating_it_never_raises(raw: Any) -> None:
    for event in translate(StreamEvent("u", "s", raw), TranslateState()):
        event.SerializeToString()


@given(st.dictionaries(st.text(), JSON))
def test_whatever_a_tools_input_holds_translating_it_never_raises(tool_input: dict[str, Any]) -> None:
    message = AssistantMessage([ToolUseBlock("t", "n", tool_input)], "m")
    for event in translate(message, TranslateState()):
        event.SerializeToString()


@pytest.mark.parametrize("content", [None, 7, [7, {"type": "image"}, {"text": None}], {"a": 1}])
def test_a_tool_result_of_an_odd_shape_is_told_as_far_as_it_goes(content: Any) -> None:
    raw = {
        "type": "user",
        "message": {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t", "content": content}],
        },
        "parent_tool_use_id": None,
        "session_id": "s",
    }
    (event,) = translate(parse_message(raw), TranslateState())
    assert event.tool_result.tool_use_id == "t"
