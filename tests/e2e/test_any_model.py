"""A real agent on a model of an OpenAI-style provider, through LiteLLM's translation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from support.files import contents
from support.scripted_openai import Answer, openai_text, openai_tool, scripted_upstream
from support.shell_clients import curl_json, events, grpcurl, kind
from support.suite import Suite

RUN_TURN = "pointsman.router.v1.RouterService/RunTurn"
LIST_EVENTS = "pointsman.session.v1.SessionService/ListEvents"
MODEL = "groq/openai/gpt-oss-120b"
# Looks like a key and is none; it must turn up nowhere but at the provider.
CANARY = "gsk_canary0123456789canary0123456789"

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


def writes_then_runs(body: Mapping[str, Any]) -> Answer:
    """Play the provider's part: write a file, look for keys, say what came back."""
    results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
    if not body.get("tools"):
        return openai_text("a title")
    if not results:
        return openai_tool("Write", {"file_path": "/workspace/note.txt", "content": "written by groq\n"})
    if len(results) == 1:
        search = "cat note.txt; env; cat /proc/*/environ | tr '\\0' '\\n'; ls -a ~ /run/agent"
        return openai_tool("Bash", {"command": search, "description": "look around"})
    return openai_text(f"The note says: {str(results[1]).splitlines()[0]}")


async def test_an_agent_works_on_a_groq_model_and_never_sees_the_key(
    make_suite: Callable[..., Suite],
) -> None:
    async with scripted_upstream(writes_then_runs) as provider:
        suite = await asyncio.to_thread(make_suite, GROQ_API_KEY=CANARY, GROQ_API_BASE=f"{provider.url}/v1")
        asked = {"prompt": "Write a note and read it to me", "model": MODEL}
        answer = await asyncio.to_thread(grpcurl, suite.port, RUN_TURN, asked, key=suite.key)

        stream = events(answer)
        kinds = [kind(event) for event in stream]
        assert kinds.index("toolUse") < kinds.index("fileChange") < kinds.index("turnFinished")
        finished = stream[-1]["turnFinished"]
        assert finished["outcome"] == "TURN_STATE_SUCCEEDED"
        assert "written by groq" in finished["result"]
        assert int(finished["usage"]["outputTokens"]) > 0
        assert provider.asked[-1].headers["authorization"] == f"Bearer {CANARY}"
        assert provider.asked[-1].body["model"] == "openai/gpt-oss-120b"

        session = {"session": "/".join(stream[-1]["turn"].split("/")[:2])}
        logged = await asyncio.to_thread(grpcurl, suite.port, LIST_EVENTS, session, key=suite.key)
        assert "written by groq" in logged.out
        assert CANARY not in answer.out + logged.out
        holders = [path for path, content in contents(suite.data_dir).items() if CANARY.encode() in content]
        assert holders == []


async def test_a_provider_that_refuses_the_key_says_so(make_suite: Callable[..., Suite]) -> None:
    refusal = Answer(
        (json.dumps({"error": {"message": "Invalid API Key", "code": "invalid_api_key"}}).encode(),),
        401,
        {"content-type": "application/json"},
    )
    async with scripted_upstream([refusal]) as provider:
        suite = await asyncio.to_thread(make_suite, GROQ_API_KEY=CANARY, GROQ_API_BASE=f"{provider.url}/v1")
        status, answer = await asyncio.to_thread(
            curl_json, f"{suite.url}/query", {"query": "hi", "model": MODEL}, key=suite.key
        )
        assert status == 400
        assert answer["details"][0]["reason"] == "PROVIDER_CREDENTIAL_REFUSED"
        assert CANARY not in json.dumps(answer)
