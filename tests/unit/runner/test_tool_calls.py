"""Counting the tool calls of an answer in passing: each counts once, and text about tool calls does not."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runner.relay.tool_calls import (
    SHORT_CALLS,
    TOOL_CALLS,
    WINDOW_SECONDS,
    RecentToolCalls,
    ToolCallCounter,
    TooManyToolCalls,
)

CALL = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}


def event(kind: str, *, spaces: bool = True, **data: Any) -> bytes:
    separators = None if spaces else (",", ":")
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data}, separators=separators)}\n\n".encode()


def begins(block: Any, *, spaces: bool = True) -> bytes:
    return event("content_block_start", spaces=spaces, index=0, content_block=block)


STREAM = begins(CALL) + begins({"type": "text", "text": ""}) + begins(CALL, spaces=False) + begins(CALL)


def fits(calls: int, answer: bytes, *cuts: int) -> bool:
    """Whether an answer with as many further calls as the limit leaves beside `calls` may go by."""
    counter = ToolCallCounter(RecentToolCalls())
    counter.feed(begins(CALL) * (TOOL_CALLS - calls))
    try:
        for start, end in pairwise([0, *sorted(cuts), len(answer)]):
            counter.feed(answer[start:end])
    except TooManyToolCalls:
        return False
    return True


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_chunks_may_be_cut_anywhere(cuts: list[int]) -> None:
    assert fits(3, STREAM, *cuts)
    assert not fits(2, STREAM, *cuts)


def test_single_bytes() -> None:
    assert fits(3, STREAM, *range(len(STREAM)))
    assert not fits(2, STREAM, *range(len(STREAM)))


def test_an_answer_that_is_one_object_is_counted() -> None:
    answer = json.dumps(
        {"type": "message", "content": [CALL] * 5, "stop_reason": "tool_use"}, indent=2
    ).encode()
    assert fits(5, answer)
    assert not fits(4, answer)


@pytest.mark.parametrize(
    "said",
    [
        event("content_block_delta", delta={"type": "text_delta", "text": json.dumps(CALL)}),
        event("content_block_delta", delta={"type": "input_json_delta", "partial_json": json.dumps(CALL)}),
        event("message_delta", delta={"stop_reason": "tool_use"}),
        begins({"type": "server_tool_use", "name": "web_search"}),
        begins({"type": "tool_use_result"}),
    ],
    ids=["text", "input", "stop reason", "a tool of the provider", "another type"],
)
def test_what_is_no_call_is_not_counted(said: bytes) -> None:
    assert fits(0, said * 3)


def test_the_limit_of_one_message_is_named() -> None:
    with pytest.raises(TooManyToolCalls, match="One message of the model may have 1,000 tool calls"):
        ToolCallCounter(RecentToolCalls()).feed(begins(CALL) * 1001)


def test_long_messages_of_sub_agents_count_together() -> None:
    recent = RecentToolCalls()
    for _ in range(2):
        ToolCallCounter(recent).feed(begins(CALL) * 400)
    third = ToolCallCounter(recent)
    for _ in range(200):
        third.feed(begins(CALL))
    with pytest.raises(TooManyToolCalls, match="1,000 tool calls within 60 seconds"):
        third.feed(begins(CALL))


def test_what_was_called_before_the_window_does_not_count() -> None:
    now = 0.0
    recent = RecentToolCalls(lambda: now)
    for _ in range(3):
        ToolCallCounter(recent).feed(begins(CALL) * TOOL_CALLS)
        now += WINDOW_SECONDS


def test_short_messages_do_not_count_together() -> None:
    recent = RecentToolCalls()
    for _ in range(100):
        ToolCallCounter(recent).feed(begins(CALL) * SHORT_CALLS)
