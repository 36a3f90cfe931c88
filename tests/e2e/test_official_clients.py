"""Anthropic's official clients and Claude Code against the gateway, as their users run them.

The provider is scripted and counts the calls that reach it, so a useless retry is seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import claude_agent_sdk
import pytest
from servicekit.testing import free_port
from support.required import program
from support.scripted_openai import (
    Answer,
    ScriptedUpstream,
    anthropic_blocks,
    anthropic_text,
    failing,
    openai_text,
    openai_tool,
    scripted_upstream,
)
from support.suite import ROOT, Suite, running

WEB = ROOT / "web"
CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
MODELS = {"anthropic": "anthropic/claude-sonnet-4-5", "groq": "groq/openai/gpt-oss-120b"}
SUM = {"a": 17, "b": 23}
# Calls of `web/e2e/llm/checks.mjs` and of the Python checks that the provider must refuse, once each.
REFUSED = ("refuse", "forbid")

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


def _scripted(body: Mapping[str, Any]) -> Answer:
    """Answer by the newest prompt, in the form of the API that was called."""
    prompt = json.dumps(body["messages"][-1]["content"])
    if "refuse" in prompt:
        return failing(400, "this request is refused")
    if "forbid" in prompt:
        return failing(401, "this key is refused")
    openai = not str(body["model"]).startswith("claude")
    if "tool" in prompt:
        if openai:
            return openai_tool("add", SUM)
        block = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
        pieces = [{"type": "input_json_delta", "partial_json": json.dumps(SUM)}]
        return anthropic_blocks([(block, pieces)], stop="tool_use")
    return openai_text("Hello there") if openai else anthropic_text("Hello there")


@dataclass(frozen=True)
class Gateway:
    """A suite whose providers are scripted."""

    suite: Suite
    provider: ScriptedUpstream
    page_port: int

    def calls(self, word: str) -> int:
        """Return how many calls with this word in the newest prompt reached the provider."""
        asked = [one for one in self.provider.asked if one.body.get("messages")]
        return sum(word in json.dumps(one.body["messages"][-1]["content"]) for one in asked)


@asynccontextmanager
async def gateway() -> AsyncIterator[Gateway]:
    page_port = free_port()
    async with scripted_upstream(_scripted) as provider:
        environ = {
            "ANTHROPIC_API_KEY": "sk-ant-test-0123456",
            "ANTHROPIC_API_BASE": provider.url,
            "GROQ_API_KEY": "gsk-test-0123456",
            "GROQ_API_BASE": f"{provider.url}/v1",
            "CORS_ORIGINS": f"http://localhost:{page_port}",
        }
        suite = running(environ)
        entered = await asyncio.to_thread(suite.__enter__)
        try:
            yield Gateway(entered, provider, page_port)
        finally:
            await asyncio.to_thread(suite.__exit__, None, None, None)


def _built() -> None:
    program("node", install="the official client's tests need Node.js")
    subprocess.run([ROOT / "deploy/setup/web.sh"], check=True, timeout=600, stdin=subprocess.DEVNULL)


async def _run(command: list[str | Path], **environ: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=WEB,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    async with asyncio.timeout(300):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-4000:]
    return out.decode()


async def test_the_typescript_client_works_in_node_and_in_chromium() -> None:
    await asyncio.to_thread(_built)
    program("chromium", install="the official client's tests need Chromium")
    async with gateway() as running_gateway:
        suite = running_gateway.suite
        for model in MODELS.values():
            out = await _run(["node", "e2e/llm/node.mjs"], BASE=suite.url, KEY=suite.key, MODEL=model)
            results = json.loads(out.strip().splitlines()[-1])
            assert {name: seen for name, seen in results.items() if seen != "ok"} == {}, model
        assert {word: running_gateway.calls(word) for word in REFUSED} == dict.fromkeys(REFUSED, 2)
        await _run(
            [WEB / "node_modules/.bin/playwright", "test", "e2e/llm-clients.spec.ts"],
            POINTSMAN_URL=suite.url,
            POINTSMAN_KEY=suite.key,
            LLM_MODEL=MODELS["anthropic"],
            LLM_PAGE_PORT=str(running_gateway.page_port),
            CHROMIUM=shutil.which("chromium") or "",
            PLAYWRIGHT_OUTPUT="test-results/llm-clients",
        )
        assert {word: running_gateway.calls(word) for word in REFUSED} == dict.fromkeys(REFUSED, 3)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
async def test_the_python_client_works_and_retries_nothing_in_vain(model: str) -> None:
    async with gateway() as running_gateway:
        suite = running_gateway.suite
        client = anthropic.AsyncAnthropic(base_url=f"{suite.url}/llm", api_key=suite.key)

        def ask(prompt: str) -> dict[str, Any]:
            return {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": prompt}]}

        async with client.messages.stream(**ask("say")) as stream:
            assert "".join([piece async for piece in stream.text_stream]) == "Hello there"
            assert stream.request_id
        found = await client.models.retrieve(model)
        assert found.id == model
        expected = {"refuse": anthropic.BadRequestError, "forbid": anthropic.PermissionDeniedError}
        for prompt, kind in expected.items():
            with pytest.raises(kind) as refused:
                await client.messages.create(**ask(prompt))
            assert refused.value.request_id
            assert running_gateway.calls(prompt) == 1
        with pytest.raises(anthropic.types.ThreadUnsupportedRequestError):
            await client.beta.messages.create(**ask("say"), extra_body={"thread": {"type": "create"}})
        wrong = anthropic.AsyncAnthropic(base_url=f"{suite.url}/llm", api_key="wrong")
        with pytest.raises(anthropic.AuthenticationError) as unknown:
            await wrong.messages.create(**ask("say"))
        assert unknown.value.response.headers["x-should-retry"] == "false"


def readme_command() -> str:
    """Return the README's command for Claude Code."""
    found = re.search(r"```sh\n(ANTHROPIC_BASE_URL=.*claude)\n```", (ROOT / "README.md").read_text())
    assert found is not None
    return found[1]


def claude(suite: Suite, directory: Path, key: str, prompt: str) -> subprocess.CompletedProcess[str]:
    """Run the README's command with a prompt, in a home without settings."""
    words = shlex.split(readme_command())
    given = dict(word.split("=", 1) for word in words[:-1])
    environ = {
        **{name: value.replace("$KEY", key) for name, value in given.items()},
        "ANTHROPIC_BASE_URL": given["ANTHROPIC_BASE_URL"].replace("http://localhost:8080", suite.url),
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "IS_SANDBOX": "1",
    }
    return subprocess.run(
        [CLI, "-p", prompt, "--output-format", "json"],
        cwd=directory,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_readmes_command_works_on_a_fresh_installation(suite: Suite, tmp_path: Path) -> None:
    ended = claude(suite, tmp_path, suite.key, "What is 17*23?")
    assert ended.returncode == 0, (ended.stdout[-500:], ended.stderr[-500:])
    assert json.loads(ended.stdout)["result"] == "391"


def test_claude_code_says_at_once_that_a_key_is_wrong(suite: Suite, tmp_path: Path) -> None:
    ended = claude(suite, tmp_path, "not-the-key", "What is 17*23?")
    result = json.loads(ended.stdout)
    assert result["is_error"] and result["api_error_status"] == 401
    # Retries with backoff take minutes.
    assert result["duration_ms"] < 30_000
