"""Reading a model's answer in passing: text comes out as it went in, and nothing odd does any harm."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runner.relay.text_reader import _EVENT_BYTES as EVENT_BYTES
from runner.relay.text_reader import TextReader


class Heard:
    """Takes what is read."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.pieces: list[tuple[int, str, str]] = []
        self.ends = 0

    def begin(self, message_id: str) -> None:
        self.begun.append(message_id)

    def piece(self, block: int, kind: str, text: str) -> None:
        self.pieces.append((block, kind, text))

    def end(self) -> None:
        self.ends += 1


def event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def start(message_id: Any = "m") -> bytes:
    return event("message_start", message={"id": message_id})


def text(said: Any, block: Any = 0) -> bytes:
    return event("content_block_delta", index=block, delta={"type": "text_delta", "text": said})


ANSWER = (
    start()
    + b": a comment\n\n"
    + event("ping")
    + event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"})
    + event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "x"})
    + text("ä✓", 1)
    + event("content_block_delta", index=2, delta={"type": "input_json_delta", "partial_json": "{"})
    + event("message_stop")
)


@given(st.lists(st.integers(0, len(ANSWER)), max_size=8), st.booleans())
def test_chunks_may_be_cut_anywhere(cuts: list[int], returns: bool) -> None:
    answer = ANSWER.replace(b"\n", b"\r\n") if returns else ANSWER
    heard = Heard()
    reader = TextReader(heard)
    places = [0, *sorted(cuts), len(answer)]
    for begin, end in pairwise(places):
        reader.feed(answer[begin:end])
    reader.end()
    assert heard.begun == ["m"]
    assert heard.pieces == [(0, "thinking", "hm"), (1, "text", "ä✓")]
    assert heard.ends == 1


@pytest.mark.parametrize(
    "odd",
    [
        b"data: {oh no\n\n",
        b"data: []\n\n",
        b"data: {}\n\n",
        b'data: {"type":"content_block_delta"}\n\n',
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\xff"}}\n\n',
        b"data: " + b"[" * 10_000 + b"\n\n",
        b"data: " + b"x" * (EVENT_BYTES + 1),
        b"data: " + b"x" * (EVENT_BYTES + 1) + b"\n\n",
        text(7),
        text("x", "0"),
        text("x", -1),
        text("x", 1 << 60),
        start(),
        start("other"),
    ],
)
def test_what_is_not_understood_ends_the_reading(odd: bytes) -> None:
    heard = Heard()
    reader = TextReader(heard)
    reader.feed(start() + text("before"))
    reader.feed(odd)
    reader.feed(text("after"))
    reader.end()
    assert heard.pieces == [(0, "text", "before")]
    assert heard.begun == ["m"]
    assert heard.ends == 1


@pytest.mark.parametrize("message_id", [7, None, "", "m" * 1000, []])
def test_a_message_without_a_name_is_not_read(message_id: Any) -> None:
    heard = Heard()
    TextReader(heard).feed(start(message_id) + text("x"))
    assert (heard.begun, heard.pieces, heard.ends) == ([], [], 1)


@given(st.binary(max_size=200))
def test_whatever_comes_reading_never_raises(data: bytes) -> None:
    reader = TextReader(Heard())
    reader.feed(start())
    reader.feed(b"data: " + data)
    reader.feed(b"\n\n")
    reader.end()
