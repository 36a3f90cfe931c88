"""Any Claude Code, anywhere, with nothing but an API key: the Messages API through the edge, under `/llm`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import anthropic
import claude_agent_sdk
import httpx
import pytest
from support.suite import Suite

pytestmark = pytest.mark.heavy

CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
MODEL = "demo/offline"


@pytest.mark.parametrize("shown_as", ["auth_token", "api_key"])
def test_the_official_sdk_streams_and_counts(suite: Suite, shown_as: str) -> None:
    client = anthropic.Anthropic(base_url=f"{suite.url}/llm", max_retries=0, **{shown_as: suite.key})  # type: ignore[arg-type]
    with client.messages.stream(
        model=MODEL, max_tokens=50, messages=[{"role": "user", "content": "What is 17*23?"}]
    ) as stream:
        assert "".join(stream.text_stream) == "391"
    count = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
    assert count.input_tokens > 0
    assert MODEL in [model.id for model in client.models.list()]


def test_claude_code_works_with_an_api_key(suite: Suite, tmp_path: Path) -> None:
    workspace, home = tmp_path / "workspace", tmp_path / "home"
    workspace.mkdir()
    home.mkdir()
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "IS_SANDBOX": "1",
        "ANTHROPIC_BASE_URL": f"{suite.url}/llm",
        "ANTHROPIC_AUTH_TOKEN": suite.key,
        "ANTHROPIC_MODEL": MODEL,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": MODEL,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    prompt = "Create hello.py that prints hello world, then run it"
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
    ended = subprocess.run(
        [CLI, *arguments],
        cwd=workspace,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, (ended.stdout[-500:], ended.stderr[-500:])
    result = json.loads(ended.stdout)
    assert not result["is_error"], result
    assert "hello world" in result["result"]
    assert (workspace / "hello.py").exists()


def test_without_a_key_nobody_gets_in_and_a_session_token_opens_nothing(suite: Suite) -> None:
    body = {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "pst_stolen"}):
        reply = httpx.post(f"{suite.url}/llm/v1/messages", json=body, headers=headers, timeout=60)
        assert reply.status_code == 401, reply.text


def test_what_is_used_there_is_in_the_ledger(suite: Suite) -> None:
    headers = {"authorization": f"Bearer {suite.key}"}
    body = {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}

    def calls() -> int:
        usage = httpx.get(f"{suite.url}/v1/usage", headers=headers, timeout=60).json()
        return int(usage["rows"][0]["usage"].get("modelCalls", 0)) if usage.get("rows") else 0

    before = calls()
    assert (
        httpx.post(f"{suite.url}/llm/v1/messages", json=body, headers=headers, timeout=60).status_code == 200
    )
    assert calls() == before + 1
