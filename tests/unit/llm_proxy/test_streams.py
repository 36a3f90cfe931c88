"""Streams are read the same wherever they are cut."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from llm_proxy.messages.assemble import Assembler
from llm_proxy.messages.request import MessagesRequest
from llm_proxy.messages.sse import StreamReader, event
from llm_proxy.servicers.answers import PieceReader
from llm_proxy.upstreams.anthropic import renamed

STREAM = b"".join(
    [
        b": hello\n\n",
        event(
            "message_start",
            message={"id": "m", "type": "message", "usage": {"input_tokens": 7, "output_tokens": 1}},
        ),
        event("ping"),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event(
            "content_block_delta",
            index=0,
            delta={"type": "text_delta", "text": 'Grüße 🚂 "usage" \n\n event: error'},
        ),
        event("content_block_stop", index=0),
        event(
            "content_block_start",
            index=1,
            content_block={"type": "tool_use", "id": "t", "name": "x", "input": {}},
        ),
        event("content_block_stop", index=1),
        event(
            "message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9, "input_tokens": 0}
        ),
        event("message_stop"),
    ]
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % len(data) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.integers(0, 10**6), max_size=40), st.booleans())
def test_usage_is_read_off_any_cut(places: list[int], carriage_returns: bool) -> None:
    reader = StreamReader()
    for chunk in cut(STREAM.replace(b"\n", b"\r\n") if carriage_returns else STREAM, places):
        reader.feed(chunk)
    assert (reader.usage.input_tokens, reader.usage.output_tokens) == (7, 9)
    assert (reader.started, reader.has_content, reader.finished, reader.pinged) == (True, True, True, True)
    assert (reader.stop_reason, reader.error, reader.broken) == ("tool_use", None, False)


@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_pieces_and_whole_messages_are_the_same_for_any_cut(places: list[int]) -> None:
    pieces = PieceReader()
    assembler = Assembler()
    got = []
    for chunk in cut(STREAM, places):
        got += list(pieces.feed(chunk))
        assembler.feed(chunk)
    assert [piece.WhichOneof("piece") for piece in got] == ["text_delta", "tool_call"]
    assert got[1].tool_call.name == "x"
    content = assembler.message()["content"]
    assert content[0]["text"] == got[0].text_delta
    assert content[1]["input"] == {}


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_no_bytes_break_the_reader(data: bytes, places: list[int]) -> None:
    reader = StreamReader()
    for chunk in cut(data + b"\n\n", places):
        reader.feed(chunk)
    assert not reader.finished or b"message_stop" in data


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=4),
    st.sampled_from(["anthropic/x", "claude-x"]),
    st.sampled_from([None, 1]),
)
def test_only_the_models_name_is_changed_in_a_body(
    extra: dict[str, str], model: str, indent: int | None
) -> None:
    body = {**extra, "messages": [{"content": f'"model": "{model}"'}], "model": model}
    raw = json.dumps(body, indent=indent).encode()
    sent = renamed(MessagesRequest(body, raw), "claude-x")
    assert json.loads(sent) == {**body, "model": "claude-x"}
