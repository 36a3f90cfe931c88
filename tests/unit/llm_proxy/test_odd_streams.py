"""Streams that are not quite as the Messages API has them come out as it has them, wherever they are cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_proxy.messages.ids import Ids
from llm_proxy.messages.sse import StreamReader, event

BEGIN = event(
    "message_start",
    message={
        "id": "m", "type": "message", "role": "assistant", "model": "x", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 1},
    },
)  # fmt: skip
END = event(
    "message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 2}
)
STOP = event("message_stop")


def start(index: int, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block={"type": "text", "text": "", **block})


def text(index: int, said: str) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "text_delta", "text": said})


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


PLAIN = b"".join([BEGIN, start(0), text(0, "Good "), text(0, "morning"), stop(0), END, STOP])


def read(*chunks: bytes, ids: Ids | None = None) -> tuple[list[dict[str, Any]], StreamReader]:
    """Return the events that come out, and the reader."""
    reader = StreamReader(ids)
    passed = b"".join([*(reader.feed(chunk) for chunk in chunks), reader.end()])
    events = [json.loads(frame.partition(b"data: ")[2]) for frame in passed.split(b"\n\n") if frame]
    return events, reader


def said(events: list[dict[str, Any]]) -> str:
    return "".join(one["delta"]["text"] for one in events if one["type"] == "content_block_delta")


@given(st.lists(st.integers(0, len(PLAIN)), max_size=30), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_what_is_in_order_passes_byte_by_byte(places: list[int], newline: bytes) -> None:
    sent = PLAIN.replace(b"\n", newline)
    edges = [0, *sorted(place * len(sent) // len(PLAIN) for place in places), len(sent)]
    reader = StreamReader()
    passed = b"".join(reader.feed(sent[a:b]) for a, b in pairwise(edges)) + reader.end()
    assert passed == PLAIN
    assert reader.finished and not reader.broken


@pytest.mark.parametrize(
    "odd",
    [
        b"data: [DONE]\n\n",
        b"id: 7\n\n",
        b"retry: 3000\n\n",
        b": a comment\n\n",
        b"event: unheard_of\ndata: {\"type\":\"unheard_of\",\"x\":1}\n\n",
        b"event: unheard_of\ndata: no JSON\n\n",
        b"data: 7\n\n",
        b"\n\n\n",
        event("content_block_delta", index=0),
        event("content_block_delta", index=0, delta={"type": "text_delta"}),
        event("content_block_delta", index=0, delta={"type": "unheard_of_delta", "x": 1}),
        event("content_block_stop", index=9),
        event("ping", kind="x", data=[1]),
        event("unheard_of", kind="x"),
        event("content_block_start", index=1),
        event("ping"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", range(7))
def test_what_is_no_part_of_an_answer_changes_nothing(odd: bytes, place: int) -> None:
    frames = [frame + b"\n\n" for frame in PLAIN.split(b"\n\n") if frame]
    events, reader = read(b"".join([*frames[:place], odd, *frames[place:]]))
    assert [one for one in events if one["type"] != "ping"] == read(PLAIN)[0]
    assert reader.finished and not reader.broken and reader.error is None


@pytest.mark.parametrize(
    "after",
    [
        b"data: [DONE]\n\n",
        text(0, "more"),
        event("error", error={"type": "api_error", "message": "late"}),
        BEGIN,
    ],
)
def test_what_follows_the_end_is_left_out(after: bytes) -> None:
    events, reader = read(PLAIN + after)
    assert events == read(PLAIN)[0]
    assert reader.error is None


@pytest.mark.parametrize(
    "without",
    [
        b"".join([start(0), text(0, "Hi"), stop(0), END, STOP]),
        b"".join([BEGIN, text(0, "Hi"), END, STOP]),
        b"".join([BEGIN, start(0), text(0, "Hi"), END, STOP]),
        b"".join([BEGIN, start(0), text(0, "Hi"), stop(0), STOP]),
        b"".join([BEGIN, start(0), text(0, "Hi"), stop(0), END]),
        b"".join([BEGIN, start(0), text(0, "Hi"), stop(0), END, b"data: [DONE]\n\n"]),
        b"".join([BEGIN, start(0), text(0, "Hi"), stop(0), event("message_delta"), STOP]),
        b"".join([event("message_start"), start(0), text(0, "Hi"), stop(0), END, STOP]),
        b"".join([BEGIN, start(0, text="Hi"), stop(0), END, STOP]),
        b"".join([BEGIN, start(3), text(3, "Hi"), stop(3), END, STOP]),
        b"".join([BEGIN, start(0), text(0, "Hi"), stop(0), END, STOP]).replace(b"event: ", b"x: "),
        b"".join([BEGIN, start(0), text(0, "Hi"), stop(0), END, STOP]).replace(b"\n\n", b"\nid: 1\n\n"),
    ],
    ids=lambda sent: str(len(sent)),
)  # fmt: skip
def test_what_is_missing_is_added(without: bytes) -> None:
    events, reader = read(without)
    kinds = [one["type"] for one in events if one["type"] != "content_block_delta"]
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert {one["index"] for one in events if "index" in one} == {0}
    assert said(events) == "Hi"
    message = events[0]["message"]
    assert message["content"] == [] and {"id", "role", "usage", "model"} <= message.keys()
    assert events[-2]["delta"]["stop_reason"] == reader.stop_reason == "end_turn"


def test_blocks_have_their_numbers_in_the_order_in_which_they_begin() -> None:
    sent = [
        BEGIN,
        start(5),
        text(5, "a"),
        stop(5),
        start(2),
        start(7),
        text(7, "c"),
        text(2, "b"),
        stop(7),
        stop(2),
    ]
    events, _ = read(b"".join([*sent, END, STOP]))
    begun = [one["index"] for one in events if one["type"] == "content_block_start"]
    assert begun == [0, 1, 2]
    deltas = {one["index"]: one["delta"]["text"] for one in events if one["type"] == "content_block_delta"}
    assert deltas == {0: "a", 1: "b", 2: "c"}


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (["Good \ud83d", "\ude00 morning"], "Good \U0001f600 morning"),
        (["\ud83d", "\ude00"], "\U0001f600"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["a\ud83d"], "a\ufffd"),
        (["\ude00b"], "\ufffdb"),
        (["\ud83d\ude00"], "\U0001f600"),
    ],
)
def test_halves_of_surrogate_pairs_are_joined_or_replaced(pieces: list[str], whole: str) -> None:
    events, _ = read(b"".join([BEGIN, start(0), *(text(0, piece) for piece in pieces), stop(0), END, STOP]))
    assert said(events) == whole
    assert all(one["delta"]["text"] for one in events if one["type"] == "content_block_delta")


def test_a_message_in_one_piece_is_read_as_a_stream() -> None:
    message = {
        "id": "m",
        "content": [
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "t", "name": "x", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    events, reader = read(event("message", **message))
    assert [
        one["delta"].get("text") or one["delta"].get("partial_json")
        for one in events
        if "index" in one and one["type"] == "content_block_delta"
    ] == ["Hi", '{"a": 1}']
    assert (reader.stop_reason, reader.usage.output_tokens, reader.finished) == ("tool_use", 4, True)


@pytest.mark.parametrize("form", [{"error": {"message": "no", "code": 502}}, {"error": "no"}])
def test_an_error_in_openais_form_is_an_error(form: dict[str, Any]) -> None:
    _, reader = read(BEGIN + start(0) + f"data: {json.dumps(form)}\n\n".encode())
    assert reader.error is not None and reader.error["message"] == "no"
    assert not reader.finished


def test_a_part_of_an_answer_that_cannot_be_read_is_not_left_out_silently() -> None:
    _, reader = read(BEGIN + start(0) + b"event: content_block_delta\ndata: {broken\n\n")
    assert reader.broken


def test_ids_that_a_later_request_could_not_have_are_replaced() -> None:
    used = {"role": "assistant", "content": [{"type": "tool_use", "id": "call_0", "name": "x", "input": {}}]}
    calls = [
        event(
            "content_block_start",
            index=n,
            content_block={"type": "tool_use", "id": given, "name": "x", "input": {}},
        )
        + stop(n)
        for n, given in enumerate(["call_0", "functions.x:1", "", "good_1", "good_1"])
    ]
    events, _ = read(b"".join([BEGIN, *calls, END, STOP]), ids=Ids("abc", [used]))
    ids = [one["content_block"]["id"] for one in events if one["type"] == "content_block_start"]
    assert events[0]["message"]["id"] == "msg_abc"
    assert len(set(ids)) == 5 and "call_0" not in ids and ids[3] == "good_1"
    assert all(one.replace("_", "").isalnum() for one in ids)


@pytest.mark.parametrize(
    ("given", "reason"), [("length", "max_tokens"), ("content_filter", "refusal"), ("stop", "end_turn")]
)
def test_reasons_to_stop_of_another_api_are_understood(given: str, reason: str) -> None:
    ended = event("message_delta", delta={"stop_reason": given}, usage={"output_tokens": 2})
    events, reader = read(b"".join([BEGIN, start(0), text(0, "x"), stop(0), ended, STOP]))
    assert events[-2]["delta"]["stop_reason"] == reader.stop_reason == reason


def test_fields_of_any_name_are_passed_on() -> None:
    odd = event("message_delta", kind="x", delta={"stop_reason": "end_turn"}, self=1)
    events, _ = read(b"".join([BEGIN, start(0, kind="y"), text(0, "x"), odd, STOP]))
    assert [one.get("kind") for one in events if one["type"] == "message_delta"] == ["x"]


@given(st.lists(st.dictionaries(
    st.sampled_from(["type", "index", "delta", "content_block", "message", "usage", "error", "kind"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5)
        | st.sampled_from(["text", "tool_use", "message_start", "content_block_start", "content_block_delta",
                           "message_delta", "message_stop", "text_delta", "ping", "error", "message"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.sampled_from(["type", "text", "id", "name", "input", "content", "stop_reason"]), inner),
        max_leaves=6,
    ),
), max_size=6))  # fmt: skip
def test_no_events_break_the_reader(events: list[dict[str, Any]]) -> None:
    reader = StreamReader(Ids("abc", []))
    for one in events:
        reader.feed(f"data: {json.dumps(one)}\n\n".encode())
    reader.end()
