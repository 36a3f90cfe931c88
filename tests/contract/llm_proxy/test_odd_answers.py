"""Answers and errors that are not as they should be: what callers get, and how often a provider is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pointsman.llm.v1 import llm_service_pb2 as pb
from support.llm_proxy_house import behind, proxy_house
from support.scripted_openai import (
    Answer,
    anthropic_text,
    bytes_answer,
    failing,
    openai_text,
    scripted_upstream,
)

SHAPES = {"groq": openai_text, "anthropic": anthropic_text}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_stream_that_closes_without_a_reason_to_stop_broke_off(tmp_path: Path, shape: str) -> None:
    whole = SHAPES[shape]("Half of it and no more")
    broken = replace(whole, chunks=whole.chunks[:5])
    async with scripted_upstream([broken]) as provider:
        model, environ = behind(shape, provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, stream=True)
            [row] = await house.usage()
    assert reply.comments("error")[0]["reason"] == "PROVIDER_RESPONSE_INVALID", reply.text
    assert row.usage.output_tokens > 0 and row.usage.estimated_calls == 1


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_limit_that_is_too_high_for_the_model_is_lowered(tmp_path: Path, shape: str) -> None:
    said = "max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens for this model"

    def limited(body: Mapping[str, Any]) -> Answer:
        asked = int(body.get("max_tokens") or body.get("max_completion_tokens") or 0)
        return failing(400, said) if asked > 64000 else SHAPES[shape]("Shorter")

    async with scripted_upstream(limited) as provider:
        model, environ = behind(shape, provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, stream=True, max_tokens=128000)
    assert reply.said() == "Shorter", reply.text
    assert len(provider.asked) == 2


async def test_thinking_that_a_provider_refuses_is_left_out(tmp_path: Path) -> None:
    def strict(body: Mapping[str, Any]) -> Answer:
        unknown = any("reasoning_content" in message for message in body["messages"])
        return failing(400, "property 'reasoning_content' is unsupported") if unknown else openai_text("Fine")

    thought = {"type": "thinking", "thinking": "hm", "signature": ""}
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "Hi"}]},
        {"role": "user", "content": "And now?"},
    ]
    async with scripted_upstream(strict) as provider:
        model, environ = behind("groq", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, messages=messages, stream=True)
    assert reply.said() == "Fine", reply.text
    assert len(provider.asked) == 2


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_picture_that_the_model_does_not_take_is_told_once(tmp_path: Path, shape: str) -> None:
    async with scripted_upstream([failing(404, "No endpoints found that support image input")]) as provider:
        model, environ = behind(shape, provider.url)
        async with proxy_house(tmp_path, environ) as house:
            messages = [{"role": "user", "content": [PICTURE, {"type": "text", "text": "What is it?"}]}]
            reply = await house.ask(await house.token(), model, messages=messages)
    assert (reply.status, reply.headers["x-pointsman-reason"]) == (400, "ATTACHMENT_UNSUPPORTED")
    assert "could not process image" in reply.json["error"]["message"]
    assert len(provider.asked) == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "body",
    [{"detail": "prompt is too long"}, {"error": "prompt is too long"}, {"message": "prompt is too long"}],
    ids=lambda body: next(iter(body)),
)
async def test_an_error_is_read_in_however_many_pieces_it_comes(
    tmp_path: Path, body: dict[str, Any], stream: bool
) -> None:
    raw = json.dumps(body).encode()
    answer = Answer(tuple(raw[start : start + 3] for start in range(0, len(raw), 3)), 400, JSON)
    async with scripted_upstream([answer]) as provider:
        model, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, stream=stream)
    assert reply.headers["x-pointsman-reason"] == "CONTEXT_TOO_LONG", reply.text


async def test_a_server_that_does_not_stream_is_understood(tmp_path: Path) -> None:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "All at once"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    async with scripted_upstream(
        [bytes_answer(json.dumps(message).encode(), "application/json")]
    ) as provider:
        model, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, stream=True)
            [row] = await house.usage()
    assert reply.said() == "All at once"
    assert (row.usage.input_tokens, row.usage.output_tokens, row.usage.estimated_calls) == (3, 4, 0)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_whole_answer_without_usage_is_charged_an_estimate(
    tmp_path: Path, shape: str, stream: bool
) -> None:
    said = "word " * 400
    answer = SHAPES[shape](said, (0, 0))
    if shape == "anthropic" and not stream:
        body = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
        content = [{"type": "text", "text": said}]
        answer = bytes_answer(json.dumps({**body, "content": content}).encode(), "application/json")
    async with scripted_upstream([answer]) as provider:
        model, environ = behind(shape, provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, stream=stream)
            [row] = await house.usage()
    assert reply.status == 200, reply.text
    assert 300 < row.usage.output_tokens < 800
    assert row.usage.input_tokens > 0 and row.usage.estimated_calls == 1


@pytest.mark.parametrize(("asked", "most"), [(0, 64_000), (9_000, 9_000)])
async def test_an_answer_may_have_as_many_tokens_as_the_model_writes(
    tmp_path: Path, asked: int, most: int
) -> None:
    async with scripted_upstream([anthropic_text("Hi")]) as provider:
        model, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            block = pb.ContentBlock(text="Hello")
            message = pb.LlmMessage(role=pb.MESSAGE_ROLE_USER, content=[block])
            request = pb.CreateMessageRequest(model=model, messages=[message], max_tokens=asked)
            pieces = [
                piece
                async for piece in house.llm.CreateMessage(request, metadata=house.internal(), timeout=60)
            ]
    assert pieces[-1].finished.stop_reason == "end_turn"
    assert provider.asked[0].body["max_tokens"] == most
