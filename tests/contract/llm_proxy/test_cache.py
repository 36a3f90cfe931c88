"""Answers that repeat themselves are given from memory, when the configuration says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.llm_proxy_house import behind, proxy_house
from support.scripted_openai import anthropic_text, scripted_upstream

MODELS = """
model_list:
  - model_name: anthropic/*
    litellm_params: {model: anthropic/*, api_base: os.environ/ANTHROPIC_API_BASE}
litellm_settings: {cache: true, cache_params: {type: local, ttl: 60}}
"""


async def test_a_repeated_request_without_chance_is_answered_from_memory(tmp_path: Path) -> None:
    async with scripted_upstream([anthropic_text("Hi")]) as provider:
        model, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ, MODELS) as house:
            same: dict[str, Any] = {"stream": True, "temperature": 0}
            token = await house.token()
            first = await house.ask(token, model, **same)
            second = await house.ask(token, model, **same)
            assert len(provider.asked) == 1
            await house.ask(token, model, "Another prompt", **same)
            await house.ask(token, model, stream=True)
            await house.ask(token, model, stream=True)
            await house.ask(await house.token(tenant="globex"), model, **same)
            [row] = await house.usage()
    assert second.said() == first.said() == "Hi"
    assert second.comments("usage")[0]["output_tokens"] == 0
    # Other prompts, requests that leave something to chance, and other tenants are asked anew.
    assert len(provider.asked) == 5
    assert row.usage.model_calls == 4
