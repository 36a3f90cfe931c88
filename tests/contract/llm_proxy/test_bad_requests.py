"""What must not be asked is refused, in Anthropic's shape, before any provider hears of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from servicekit.testing import wait_until
from support.llm_proxy_house import ProxyHouse

ASK: dict[str, Any] = {
    "model": "demo/offline",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "2+2"}],
}


async def refusal(house: ProxyHouse, body: Any) -> tuple[int, str, str]:
    reply = await house.post("/v1/messages", body, {"x-api-key": await house.token()})
    error = reply.json
    assert error["type"] == "error"
    return reply.status, reply.headers["x-pointsman-reason"], error["error"]["message"]


async def test_an_unlisted_model_is_a_404_that_names_what_exists(demo: ProxyHouse) -> None:
    status, reason, message = await refusal(demo, {**ASK, "model": "acme/none"})
    assert (status, reason) == (404, "MODEL_UNKNOWN")
    assert "acme/none" in message
    assert "groq/openai/gpt-oss-120b" in message
    assert "openrouter/*" in message


@pytest.mark.parametrize(
    "model",
    [
        "groq/*", "*", "groq/../openai/gpt-4o", "openai/../x", "groq/a\nb", "https://evil.example/v1",
        "groq//x", "groq/x?y=1", "/etc/passwd", "groq/%2e%2e", "-rf", "groq/" + "x" * 300, "groq/\x00",
        "groq/а", " ",
    ],
)  # fmt: skip
async def test_what_is_no_models_name_is_a_400(demo: ProxyHouse, model: str) -> None:
    status, reason, _ = await refusal(demo, {**ASK, "model": model})
    assert (status, reason) == (400, "INVALID_FIELD")


async def test_a_model_without_credential_names_the_variable(demo: ProxyHouse) -> None:
    status, reason, message = await refusal(demo, {**ASK, "model": "groq/openai/gpt-oss-120b"})
    assert (status, reason) == (403, "PROVIDER_CREDENTIAL_MISSING")
    assert "GROQ_API_KEY is not set" in message


@pytest.mark.parametrize(
    "field",
    ["api_base", "api_key", "base_url", "extra_headers", "mock_response", "litellm_metadata",
     "aws_region_name", "fallbacks", "num_retries", "custom_llm_provider", "mcp_servers", "container",
     "timeout"],
)  # fmt: skip
async def test_commands_to_the_proxy_are_refused(demo: ProxyHouse, field: str) -> None:
    status, reason, message = await refusal(demo, {**ASK, field: "http://evil.example"})
    assert (status, reason) == (400, "INVALID_FIELD")
    assert message.startswith(f"{field}: ")


async def test_metadata_may_only_name_the_user(demo: ProxyHouse) -> None:
    assert (await refusal(demo, {**ASK, "metadata": {"trace": "x"}}))[1] == "INVALID_FIELD"
    reply = await demo.post(
        "/v1/messages", {**ASK, "metadata": {"user_id": "u"}}, {"x-api-key": await demo.token()}
    )
    assert reply.status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000,
        b'{"model": 1, "max_tokens": 1, "messages": []}',
        b'{"max_tokens": 1, "messages": []}',
        b'{"max_tokens": 0, "messages": [{"role": "user", "content": "x"}]}',
        b'{"messages": [{"role": "user", "content": "x"}]}', b'{"max_tokens": 1, "messages": [1]}',
        b'{"max_tokens": 1, "messages": [{"role": "user", "content": [1]}]}',
        b'{"max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "stream": "yes"}',
        b'{"max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "tools": {}}',
        b'{"max_tokens": 10000000000000000000000000, "messages": [{"role": "user", "content": "x"}]}',
        b'{"max_tokens": true, "messages": [{"role": "user", "content": "x"}]}',
    ],
)  # fmt: skip
async def test_a_broken_body_is_a_400(demo: ProxyHouse, body: bytes) -> None:
    status, reason, _ = await refusal(demo, body)
    assert status == 400
    assert reason in ("MALFORMED_REQUEST", "INVALID_FIELD")


async def test_fifty_megabytes_are_a_413(demo: ProxyHouse) -> None:
    big = {**ASK, "messages": [{"role": "user", "content": "x" * (50 * 1024 * 1024)}]}
    reply = await demo.post("/v1/messages", json.dumps(big).encode(), {"x-api-key": await demo.token()})
    assert (reply.status, reply.headers["x-pointsman-reason"]) == (413, "MESSAGE_TOO_LARGE")
    assert reply.json["error"]["type"] == "request_too_large"


async def test_other_paths_and_methods_say_which_exist(demo: ProxyHouse) -> None:
    reply = await demo.post("/v1/complete", ASK, {"x-api-key": await demo.token()})
    assert reply.status == 404
    assert "/v1/messages" in reply.json["error"]["message"]
    async with demo.session.get(f"{demo.url}/v1/messages") as response:
        assert response.status == 404
        assert (await response.json())["type"] == "error"


async def test_head_and_models_answer_agents_that_look_around(demo: ProxyHouse) -> None:
    async with demo.session.head(f"{demo.url}/") as response:
        assert response.status == 200
    headers = {"x-api-key": await demo.token()}
    async with demo.session.get(f"{demo.url}/v1/models", headers=headers) as response:
        assert [model["id"] for model in (await response.json())["data"]] == ["demo/offline"]
    async with demo.session.get(f"{demo.url}/v1/models") as response:
        assert response.status == 401


URL = {"type": "url", "url": "http://169.254.169.254/latest"}


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": [{"type": "image", "source": URL}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": URL}]}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}],
                }
            ]
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "x",
                            "content": [{"type": "image", "source": URL}],
                        }
                    ],
                }
            ]
        },
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": URL["url"]}}]}
            ]
        },
        {"system": [{"type": "image", "source": URL}]},
        {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]},
        {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
    ],
)
async def test_nothing_may_fetch_for_the_sandbox(demo: ProxyHouse, fields: dict[str, Any]) -> None:
    status, reason, _ = await refusal(demo, {**ASK, **fields})
    assert (status, reason) == (400, "INVALID_FIELD")


async def test_a_bomb_of_small_values_is_a_413(demo: ProxyHouse) -> None:
    bomb = b'{"max_tokens":1,"messages":[{"role":"user","content":"x"}],"x":[' + b"[]," * 1_000_000 + b"[]]}"
    status, reason, _ = await refusal(demo, bomb)
    assert (status, reason) == (413, "MESSAGE_TOO_LARGE")


async def test_bodies_that_trickle_in_keep_no_other_session_waiting(demo: ProxyHouse) -> None:
    over, begun = asyncio.Event(), 0

    async def trickle() -> AsyncIterator[bytes]:
        nonlocal begun
        begun += 1
        yield b'{"model":'
        await over.wait()

    async def in_pieces() -> AsyncIterator[bytes]:
        yield json.dumps(ASK).encode()

    slow = {"x-api-key": await demo.token()}
    url = f"{demo.url}/v1/messages"
    trickling = [asyncio.create_task(demo.session.post(url, data=trickle(), headers=slow)) for _ in range(12)]
    await wait_until(lambda: begun == len(trickling), timeout=60)
    try:
        async with asyncio.timeout(60):
            headers = {"x-api-key": await demo.token()}
            async with demo.session.post(url, data=in_pieces(), headers=headers) as answer:
                assert answer.status == 200
    finally:
        over.set()
        for answered in await asyncio.gather(*trickling, return_exceptions=True):
            if not isinstance(answered, BaseException):
                answered.close()
