"""Tools that the caller's own program runs reach every provider in a form that its models understand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.llm_proxy_house import ProxyHouse, behind, proxy_house
from support.scripted_openai import anthropic_text, openai_text, scripted_upstream

BASH: dict[str, Any] = {"type": "bash_20250124", "name": "bash"}
EDITOR: dict[str, Any] = {
    "type": "text_editor_20250728",
    "name": "str_replace_based_edit_tool",
    "max_characters": 10_000,
}


async def test_anthropic_gets_them_as_they_are(tmp_path: Path) -> None:
    async with scripted_upstream([anthropic_text("ok")]) as provider:
        model, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, stream=True, tools=[BASH, EDITOR])
        assert reply.status == 200, reply.text
        assert provider.asked[0].body["tools"] == [BASH, EDITOR]


@pytest.mark.parametrize("shape", ["groq", "openrouter"])
async def test_other_providers_get_functions_with_their_schemas(tmp_path: Path, shape: str) -> None:
    async with scripted_upstream([openai_text("ok")]) as provider:
        model, environ = behind(shape, provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, stream=True, tools=[BASH, EDITOR])
        assert reply.status == 200, reply.text
        sent = {tool["function"]["name"]: tool["function"] for tool in provider.asked[0].body["tools"]}
    assert set(sent) == {"bash", "str_replace_based_edit_tool"}
    assert "command" in sent["bash"]["parameters"]["properties"]
    assert {"command", "path"} <= set(sent["str_replace_based_edit_tool"]["parameters"]["properties"])


async def test_what_another_provider_cannot_have_is_refused_and_not_dropped(tmp_path: Path) -> None:
    memory = {"type": "memory_20250818", "name": "memory"}
    async with scripted_upstream([openai_text("ok")]) as provider:
        model, environ = behind("groq", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            reply = await house.ask(await house.token(), model, stream=True, tools=[BASH, memory])
        assert (reply.status, reply.headers["x-pointsman-reason"]) == (400, "INVALID_FIELD")
        assert "tools[1].type: memory_20250818 works with Anthropic's models only" in reply.text
        assert provider.asked == []


@pytest.mark.parametrize(
    "kind", ["web_search_20250305", "code_execution_20250825", "bash_x", "xbash_20250124", 7, []]
)
async def test_tools_that_run_at_the_provider_are_refused(demo: ProxyHouse, kind: Any) -> None:
    reply = await demo.ask(await demo.token(), "demo/offline", tools=[{"type": kind, "name": "x"}])
    assert (reply.status, reply.headers["x-pointsman-reason"]) == (400, "INVALID_FIELD")
    assert "tools[0].type" in reply.text


async def test_every_response_names_its_request(demo: ProxyHouse) -> None:
    token = await demo.token()
    stream = await demo.ask(token, "demo/offline", stream=True)
    refused = await demo.ask(token, "acme/none")
    assert stream.headers["request-id"]
    assert refused.headers["request-id"] == refused.json["request_id"]
    assert refused.headers["x-should-retry"] == "false"
