"""The official Python SDK and Claude Code itself work against llm-proxy, whatever is behind it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import claude_agent_sdk
import pytest
from support.llm_proxy_house import ProxyHouse, behind, proxy_house
from support.scripted_openai import (
    Answer,
    anthropic_blocks,
    anthropic_text,
    openai_text,
    openai_tool,
    scripted_upstream,
)

CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
SHAPES = ["groq", "openrouter", "anthropic", "demo"]
ADD: Any = {
    "name": "add",
    "description": "Add two numbers",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
}


def text(shape: str, words: str) -> Answer:
    return anthropic_text(words) if shape == "anthropic" else openai_text(words)


def tool(shape: str, name: str, tool_input: dict[str, Any]) -> Answer:
    if shape != "anthropic":
        return openai_tool(name, tool_input)
    raw = json.dumps(tool_input)
    block = {"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": {}}
    pieces = [
        {"type": "input_json_delta", "partial_json": raw[start : start + 3]}
        for start in range(0, len(raw), 3)
    ]
    return anthropic_blocks([(block, pieces)], stop="tool_use")


@asynccontextmanager
async def before(shape: str, script: list[Answer], directory: Path) -> AsyncIterator[tuple[ProxyHouse, str]]:
    """A proxy and a model's name of this shape; the demo model follows its own script."""
    if shape == "demo":
        async with proxy_house(directory) as house:
            yield house, "demo/offline"
        return
    # Agents ask small things beside the conversation; those get a word and use up nothing.
    rest = iter(script)
    last: list[Answer] = []

    def next_answer(body: Any) -> Answer:
        if not body.get("tools"):
            return last[-1] if last else text(shape, "ok")
        last.append(next(rest, script[-1]))
        return last[-1]

    async with scripted_upstream(next_answer if len(script) > 1 else script) as provider:
        model, environ = behind(shape, provider.url)
        async with proxy_house(directory, environ) as house:
            yield house, model


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_sdk_streams_text(tmp_path: Path, shape: str) -> None:
    async with before(shape, [text(shape, "Grüße 🚂")], tmp_path) as (house, model):
        client = anthropic.AsyncAnthropic(base_url=house.url, api_key=await house.token())
        prompt: Any = [{"role": "user", "content": "Say Grüße 🚂"}]
        async with client.messages.stream(model=model, max_tokens=50, messages=prompt) as stream:
            words = "".join([piece async for piece in stream.text_stream])
            message = await stream.get_final_message()
        if shape != "anthropic":  # whose script is a stream, whatever is asked for
            whole = await client.messages.create(model=model, max_tokens=50, messages=prompt)
            assert whole.content[0].text == "Grüße 🚂"  # type: ignore[union-attr]
    assert words == "Grüße 🚂"
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0


@pytest.mark.parametrize("shape", ["groq", "openrouter", "anthropic"])
async def test_the_sdk_calls_tools(tmp_path: Path, shape: str) -> None:
    async with before(shape, [tool(shape, "add", {"a": 17, "b": 23})], tmp_path) as (house, model):
        client = anthropic.AsyncAnthropic(base_url=house.url, auth_token=await house.token())
        prompt: Any = [{"role": "user", "content": "Add 17 and 23"}]
        async with client.messages.stream(model=model, max_tokens=50, messages=prompt, tools=[ADD]) as stream:
            message = await stream.get_final_message()
    [call] = [block for block in message.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("add", {"a": 17, "b": 23})
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize("shape", ["groq", "openrouter", "demo"])
async def test_the_sdk_counts_tokens(tmp_path: Path, shape: str) -> None:
    async with before(shape, [text(shape, "-")], tmp_path) as (house, model):
        client = anthropic.AsyncAnthropic(base_url=house.url, api_key=await house.token())
        short: Any = [{"role": "user", "content": "Hi"}]
        long: Any = [{"role": "user", "content": "Hi there. " * 500}]
        few = await client.messages.count_tokens(model=model, messages=short)
        many = await client.messages.count_tokens(model=model, messages=long, tools=[ADD])
    assert 0 < few.input_tokens < 60
    assert 1000 < many.input_tokens < 5000


async def test_anthropic_counts_its_tokens_itself(tmp_path: Path) -> None:
    answer = Answer((b'{"input_tokens": 77}',), headers={"content-type": "application/json"})
    async with scripted_upstream([answer]) as provider:
        model, environ = behind("anthropic", provider.url)
        async with proxy_house(tmp_path, environ) as house:
            client = anthropic.AsyncAnthropic(base_url=house.url, api_key=await house.token())
            count = await client.messages.count_tokens(
                model=model, messages=[{"role": "user", "content": "Hi"}]
            )
    assert count.input_tokens == 77
    assert provider.asked[0].path.startswith("/v1/messages/count_tokens")


async def test_the_sdk_lists_models_and_raises_its_own_errors(demo: ProxyHouse) -> None:
    client = anthropic.AsyncAnthropic(base_url=demo.url, api_key=await demo.token(), max_retries=0)
    assert [model.id async for model in client.models.list()] == ["demo/offline"]
    prompt: Any = [{"role": "user", "content": "Hi"}]
    with pytest.raises(anthropic.NotFoundError, match="There are: demo/offline"):
        await client.messages.create(model="acme/none", max_tokens=5, messages=prompt)
    client = anthropic.AsyncAnthropic(base_url=demo.url, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        await client.messages.create(model="demo/offline", max_tokens=5, messages=prompt)


async def run_claude(house: ProxyHouse, model: str, prompt: str, directory: Path) -> dict[str, Any]:
    """Run Claude Code on a prompt, as anybody would; returns its result."""
    workspace, home = directory / "workspace", directory / "home"
    workspace.mkdir()
    home.mkdir()
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "IS_SANDBOX": "1",
        "ANTHROPIC_BASE_URL": house.url,
        "ANTHROPIC_AUTH_TOKEN": await house.token(),
        "ANTHROPIC_MODEL": model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    arguments = [
        "-p",
        prompt,
        "--max-turns",
        "6",
        "--permission-mode",
        "bypassPermissions",
        "--output-format",
        "json",
    ]
    process = await asyncio.create_subprocess_exec(
        CLI,
        *arguments,
        cwd=workspace,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (out[-500:], errors[-500:])
    result: dict[str, Any] = json.loads(out)
    return result


@pytest.mark.heavy
@pytest.mark.parametrize("shape", SHAPES)
async def test_claude_code_writes_and_runs_a_file(tmp_path: Path, shape: str) -> None:
    path = str(tmp_path / "workspace" / "hello.py")
    script = [
        tool(shape, "Write", {"file_path": path, "content": 'print("hello world")\n'}),
        tool(shape, "Bash", {"command": "python3 hello.py", "description": "Run it"}),
        text(shape, "It printed hello world"),
    ]
    async with before(shape, script, tmp_path) as (house, model):
        prompt = "Create hello.py that prints hello world, then run it"
        result = await run_claude(house, model, prompt, tmp_path)
        rows = await house.usage(4)
    assert not result["is_error"], result
    assert "hello world" in result["result"]
    assert (tmp_path / "workspace" / "hello.py").read_text() == 'print("hello world")\n'
    assert {row.model for row in rows} == {model}
    assert sum(row.usage.model_calls for row in rows) >= 3
    assert sum(row.failed_calls for row in rows) == 0
