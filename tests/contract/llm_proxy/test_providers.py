"""Models of other shapes, behind the shipped configuration: what they send arrives, and is counted."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pointsman.llm.v1 import model_service_pb2 as models_pb
from support.llm_proxy_house import behind, proxy_house
from support.scripted_openai import (
    Answer,
    anthropic_blocks,
    anthropic_text,
    failing,
    openai_text,
    openai_tool,
    recut,
    scripted_upstream,
)

TOOLS = [
    {
        "name": "Write",
        "description": "Write a file",
        "input_schema": {"type": "object", "properties": {"file_path": {"type": "string"}}},
    }
]


TEXTS: dict[str, Any] = {"groq": openai_text, "openrouter": openai_text, "anthropic": anthropic_text}


@pytest.mark.parametrize(
    ("shape", "stream"),
    [("groq", True), ("groq", False), ("openrouter", True), ("openrouter", False), ("anthropic", True)],
)
async def test_an_answer_arrives_and_its_usage_is_reported(tmp_path: Path, shape: str, stream: bool) -> None:
    async with scripted_upstream([TEXTS[shape]("Grüße, 世界 🚂", (120, 7))]) as provider:
        model, environ = behind(shape, provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, stream=stream)
            rows = await house.usage(models_pb.USAGE_DIMENSION_MODEL)
    assert reply.status == 200, reply.text
    if stream:
        assert reply.said() == "Grüße, 世界 🚂"
        [usage] = reply.comments("usage")
    else:
        assert reply.json["content"][0]["text"] == "Grüße, 世界 🚂"
        usage = json.loads(reply.headers["x-pointsman-usage"])
    assert (usage["model"], usage["input_tokens"], usage["output_tokens"]) == (model, 120, 7)
    [row] = rows
    assert (row.model, row.usage.input_tokens, row.usage.output_tokens) == (model, 120, 7)
    assert row.usage.model_calls == 1


async def test_a_whole_answer_of_anthropics(tmp_path: Path) -> None:
    body = (
        b'{"id":"msg_1","type":"message","role":"assistant","model":"x","content":[{"type":"text","text":"Hi"}],'
        b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":2}}'
    )
    answer = Answer((body[:50], body[50:]), headers={"content-type": "application/json"})
    async with scripted_upstream([answer]) as provider:
        model, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model)
            [row] = await house.usage()
    assert reply.body == body
    assert '"output_tokens": 2' in reply.headers["x-pointsman-usage"]
    assert (row.usage.input_tokens, row.usage.output_tokens) == (9, 2)


@pytest.mark.parametrize("shape", TEXTS)
@pytest.mark.parametrize("size", [1, 3, 7])
async def test_characters_and_events_cut_anywhere_arrive_whole(tmp_path: Path, shape: str, size: int) -> None:
    text = "Über 世界 🚂🚃 ß"
    async with scripted_upstream([recut(TEXTS[shape](text), size)]) as provider:
        model, environ = behind(shape, provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, stream=True)
    assert reply.said() == text
    assert reply.comments("usage")[0]["output_tokens"] == 3


async def test_anthropics_bytes_pass_through_unchanged(tmp_path: Path) -> None:
    begun = {"type": "thinking", "thinking": "", "signature": ""}
    thought = (begun, [{"type": "thinking_delta", "thinking": "hm"}])
    signed = ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "So."}])
    answer = anthropic_blocks([thought, signed], (50, 9), cached=(400, 30))
    async with scripted_upstream([answer]) as provider:
        model, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, stream=True)
            [row] = await house.usage()
    # The message's beginning has an id of ours: only Anthropic's own API is known to have unique ones.
    sent = b"".join(answer.chunks[1:])
    assert sent in reply.body
    [begin] = [event for event in reply.events() if event["type"] == "message_start"]
    assert begin["message"]["usage"]["cache_read_input_tokens"] == 400
    assert (row.usage.cache_read_tokens, row.usage.cache_write_tokens) == (400, 30)
    # 50 × $3 + 9 × $15 + 400 × $0.30 + 30 × $3.75, each for a million.
    assert row.usage.cost_usd == pytest.approx((150 + 135 + 120 + 112.5) / 1e6, abs=1e-15)


async def test_anthropic_gets_our_key_the_plain_name_and_the_callers_betas(tmp_path: Path) -> None:
    async with scripted_upstream([anthropic_text("Hi")]) as provider:
        _, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            token = await house.token()
            raw = (
                b'{ "model" : "anthropic/claude-sonnet-4-5","max_tokens":5,"stream":true,'
                b'"messages":[{"role":"user","content":"\\u00e9 1.0"}]}'
            )
            await house.post(
                "/v1/messages?beta=true",
                raw,
                {"x-api-key": token, "anthropic-beta": "one-1,two-2", "anthropic-version": "2023-06-01"},
            )
    [asked] = provider.asked
    assert asked.path == "/v1/messages?beta=true"
    assert asked.headers["x-api-key"] == environ["ANTHROPIC_API_KEY"]
    assert "authorization" not in asked.headers
    assert asked.headers["anthropic-beta"] == "one-1,two-2"
    assert asked.body["model"] == "claude-sonnet-4-5"
    assert token not in str(asked)


async def test_an_oauth_token_goes_as_bearer_with_its_beta(tmp_path: Path) -> None:
    async with scripted_upstream([anthropic_text("Hi")]) as provider:
        environ = {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-secret", "ANTHROPIC_API_BASE": provider.url}
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), "claude-sonnet-4-5", stream=True)
    assert reply.status == 200, reply.text
    assert provider.asked[0].headers["authorization"] == "Bearer sk-ant-oat01-secret"
    assert provider.asked[0].headers["anthropic-beta"] == "oauth-2025-04-20"


@pytest.mark.parametrize("tool_input", [{"file_path": "a/ü.txt", "content": 'x"\n\\'}, {}])
@pytest.mark.parametrize("shape", ["groq", "openrouter"])
async def test_a_tool_call_in_many_deltas_arrives_whole(
    tmp_path: Path, shape: str, tool_input: dict[str, str]
) -> None:
    async with scripted_upstream([openai_tool("Write", tool_input)]) as provider:
        model, environ = behind(shape, provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, stream=False, tools=TOOLS)
    [block] = [block for block in reply.json["content"] if block["type"] == "tool_use"]
    assert (block["name"], block["input"]) == ("Write", tool_input)
    assert reply.json["stop_reason"] == "tool_use"


@pytest.mark.parametrize("shape", ["anthropic", "groq", "openrouter"])
async def test_a_provider_gets_the_calls_id_in_the_ledger_at_each_attempt(tmp_path: Path, shape: str) -> None:
    async with scripted_upstream([failing(529), TEXTS[shape]("Hi")]) as provider:
        model, environ = behind(shape, provider.url)
        async with proxy_house(tmp_path, environ) as house:
            assert (await house.ask(await house.token(), model, stream=True)).said() == "Hi"
            with sqlite3.connect(house.data_dir / "llm-proxy" / "ledger.db") as ledger:
                [(call, state)] = ledger.execute("SELECT id, state FROM llm_calls").fetchall()
    assert state == "settled"
    assert [asked.headers["x-client-request-id"] for asked in provider.asked] == [call, call]
