"""The commands that clients of the older services have in their notes, typed as they stand there.

Only the port and the key are changed. The models they name are a provider's that plays a script, so that no
word of a request need be changed either.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from support.scripted_openai import Answer, openai_text, openai_tool, scripted_upstream
from support.suite import Suite

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

QUERY = """\
curl -X POST http://localhost:8787/query \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer YOUR_API_KEY" \\
  -d '{"query": "What is 2+2?"}'
"""

# Of these only the bodies were ever printed; the command around them is the one above.
MESSAGE = """\
{
    "message": "Create a hello world app"
}
"""
CLAUDE_CODE = """\
{
    "prompt": "Create a hello world app",
    "model": "groq/openai/gpt-oss-120b",
    "stream": true,
    "verbose": false,
    "maxTurns": 10,
    "permissionMode": "acceptEdits",
    "sessionId": "session_1234567890"
}
"""
SAID = "I'll help you create a hello world app"


def provider(body: Mapping[str, Any]) -> Answer:
    """Play the model's part: one file, then a word about it."""
    if body.get("tools") and not any(message["role"] == "tool" for message in body["messages"]):
        return openai_tool("Write", {"file_path": "/workspace/hello.py", "content": "print('hello world')\n"})
    return openai_text(SAID)


@dataclass(frozen=True)
class Terminal:
    """A shell beside an installation."""

    suite: Suite

    def type(self, command: str) -> str:
        """Run a command with this installation's port and key in the places of the printed ones."""
        typed = command.replace("localhost:8787", f"localhost:{self.suite.port}")
        typed = typed.replace("YOUR_API_KEY", self.suite.key)
        done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    def post(self, path: str, body: str) -> str:
        """The printed command, with another path and body."""
        return self.type(QUERY.replace("/query", path).replace('{"query": "What is 2+2?"}', body))


@pytest.fixture
async def terminal(make_suite: Callable[..., Suite]) -> AsyncIterator[Terminal]:
    async with scripted_upstream(provider) as upstream:
        environ = {"GROQ_API_KEY": "gsk_0123456789", "GROQ_API_BASE": f"{upstream.url}/v1"}
        yield Terminal(await asyncio.to_thread(make_suite, MODEL="demo/offline", **environ))


async def test_what_was_printed_works_and_answers_in_the_printed_shape(terminal: Terminal) -> None:
    def typed() -> None:
        the_quickstarts_question(terminal)
        a_message_to_the_agent(terminal)
        an_agent_run_that_streams(terminal)
        an_agent_run_in_one_piece(terminal)

    await asyncio.to_thread(typed)


def the_quickstarts_question(terminal: Terminal) -> None:
    answer = json.loads(terminal.type(QUERY))
    assert {"success": True, "response": "4"}.items() <= answer.items()


def a_message_to_the_agent(terminal: Terminal) -> None:
    before = time.time() * 1000
    answer = json.loads(terminal.post("/agent/message", MESSAGE))
    assert answer["status"] == "Message processed"
    assert before <= answer["timestamp"] <= time.time() * 1000


def an_agent_run_that_streams(terminal: Terminal) -> None:
    items = [json.loads(line) for line in terminal.post("/claude-code", CLAUDE_CODE).splitlines()]
    assert [item["type"] for item in items].count("result") == 1
    assert {"tool_use", "file_change", "assistant_message"} <= {item["type"] for item in items}
    check_result(items[-1])
    assert {item["sessionId"] for item in items} == {items[-1]["sessionId"]}


def an_agent_run_in_one_piece(terminal: Terminal) -> None:
    whole = CLAUDE_CODE.replace('"stream": true', '"stream": false')
    first, again = (json.loads(terminal.post("/claude-code", whole)) for _ in range(2))
    check_result(first)
    # The name that the caller chose means one session, each time.
    assert first["sessionId"] == again["sessionId"]
    assert first["requestId"] != again["requestId"]


def check_result(item: dict[str, Any]) -> None:
    assert (item["type"], item["result"]) == ("result", SAID)
    assert not item.get("isError", False)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", item["sessionId"])
    assert item["requestId"]
