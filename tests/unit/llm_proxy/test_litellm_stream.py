"""Tool calls of an OpenAI stream come one after another, however their pieces lie in it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices
from llm_proxy.upstreams.litellm_stream import OneCallAtATime

ONE, TWO = '{"a": 1}', '{"b": 2}'


def call(index: int | None, said: str = "", **named: str) -> dict[str, Any]:
    function = {"arguments": said, **({"name": named["name"]} if "name" in named else {"name": None})}
    return {"index": index, "id": named.get("id"), "type": "function", "function": function}


def chunk(*calls: dict[str, Any], content: str | None = None, ends: str | None = None) -> ModelResponseStream:
    delta = Delta(content=content, tool_calls=list(calls) or None)
    return ModelResponseStream(choices=[StreamingChoices(index=0, delta=delta, finish_reason=ends)])


NAMED = {"first": {"id": "c1", "name": "one"}, "second": {"id": "c2", "name": "two"}}
STREAMS = {
    "one after another": [chunk(call(0, ONE, **NAMED["first"])), chunk(call(1, TWO, **NAMED["second"]))],
    "in one chunk": [chunk(call(0, ONE, **NAMED["first"]), call(1, TWO, **NAMED["second"]))],
    "interleaved": [
        chunk(call(0, **NAMED["first"])),
        chunk(call(1, **NAMED["second"])),
        *(chunk(call(0, a), call(1, b)) for a, b in zip(ONE, TWO, strict=True)),
    ],
    "the second first": [
        chunk(call(0, **NAMED["first"])),
        chunk(call(1, TWO, **NAMED["second"])),
        chunk(call(0, ONE)),
    ],
    "all with one index": [chunk(call(0, ONE, **NAMED["first"])), chunk(call(0, TWO, **NAMED["second"]))],
}


async def sorted_calls(chunks: list[Any]) -> tuple[list[tuple[str, str]], str, list[str | None]]:
    """Return the calls as LiteLLM's adapter puts them together, the text, and the reasons to stop."""

    async def stream() -> AsyncIterator[Any]:
        for one in chunks:
            yield one

    calls: list[tuple[str, str]] = []
    text, ends = "", []
    async for one in OneCallAtATime(stream()):
        delta = one.choices[0].delta
        text += delta.content or ""
        ends.append(one.choices[0].finish_reason)
        assert len(delta.tool_calls or ()) <= 1
        for piece in delta.tool_calls or ():
            if piece.function.name:
                calls.append((piece.function.name, ""))
            name, said = calls.pop()
            calls.append((name, said + (piece.function.arguments or "")))
    return calls, text, ends


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("end", ["own chunk", "last chunk", "none"])
async def test_calls_come_one_after_another(kind: str, end: str) -> None:
    chunks = [one.model_copy(deep=True) for one in STREAMS[kind]]
    if end == "own chunk":
        chunks.append(chunk(ends="tool_calls"))
    elif end == "last chunk":
        chunks[-1].choices[0].finish_reason = "tool_calls"
    calls, _, ends = await sorted_calls([chunk(content="Look: "), *chunks])
    assert calls == [("one", ONE), ("two", TWO)]
    assert [reason for reason in ends if reason] == ([] if end == "none" else ["tool_calls"])
    assert ends[-1] is not None or end == "none"


async def test_text_beside_calls_is_kept_once() -> None:
    both = chunk(
        call(0, ONE, **NAMED["first"]), call(1, TWO, **NAMED["second"]), content="Look.", ends="stop"
    )
    calls, text, _ = await sorted_calls([both])
    assert (calls, text) == ([("one", ONE), ("two", TWO)], "Look.")


async def test_a_stream_without_calls_passes_unchanged() -> None:
    chunks = [chunk(content=letter) for letter in "Hello"]

    async def stream() -> AsyncIterator[Any]:
        for one in chunks:
            yield one

    passed = [one async for one in OneCallAtATime(stream())]
    assert all(a is b for a, b in itertools.zip_longest(passed, chunks))
