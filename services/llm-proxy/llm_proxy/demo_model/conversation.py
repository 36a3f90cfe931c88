"""What a request to the Messages API says, as far as the demo model understands it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from llm_proxy.demo_model.tags import without, without_earlier, without_gathered

# What agents add to the user's words.
_ADDED: Final = (
    "system-reminder",
    "local-command-caveat",
    "command-name",
    "command-message",
    "command-args",
    "local-command-stdout",
)
# What Claude Code puts between a prompt that was broken off and the next one, in one message.
_INTERRUPTED: Final = re.compile(r"\[Request interrupted by user[^\]]*\]")
_DIRECTORY: Final = re.compile(r"[Ww]orking directory:\s*`?(/[^\s`]*)")
_DEFAULT_DIRECTORY: Final = "/workspace"


@dataclass(frozen=True)
class ToolUse:
    """A tool call that was made, with its result; `result` is None while it is under way."""

    name: str
    input: Mapping[str, Any]
    result: str | None = None
    failed: bool = False


@dataclass(frozen=True)
class Exchange:
    """A prompt, the tools that were used for it, and what was said at its end (empty while it goes on)."""

    prompt: str
    tools: tuple[ToolUse, ...] = ()
    answer: str = ""
    gathered: tuple[str, ...] = ()
    """What the installation gathered for the prompt."""


@dataclass(frozen=True)
class Conversation:
    """Everything asked and done so far; the last exchange is the one to answer."""

    exchanges: tuple[Exchange, ...]
    tools: Mapping[str, Mapping[str, Any]]
    """Schemas of the tools that are offered, by name."""
    forced_tool: str
    system: str
    directory: str
    """Where relative paths begin."""
    output_schema: Mapping[str, Any] | None = None

    @property
    def current(self) -> Exchange:
        """The exchange to answer."""
        return self.exchanges[-1]

    @property
    def earlier(self) -> tuple[Exchange, ...]:
        """The exchanges before it."""
        return self.exchanges[:-1]


def read_conversation(body: Mapping[str, Any]) -> Conversation:
    """Read a request that `read_request` has checked."""
    messages = body["messages"]
    system = _text(body.get("system", ""))
    surroundings = "\n".join([system, *(_text(message["content"]) for message in messages)])
    directory = _DIRECTORY.search(surroundings)
    choice = body.get("tool_choice") or {}
    output = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    return Conversation(
        exchanges=_exchanges(messages),
        tools={str(tool.get("name", "")): tool.get("input_schema") or {} for tool in body.get("tools") or ()},
        forced_tool=str(choice.get("name", "")) if choice.get("type") == "tool" else "",
        system=system,
        directory=directory.group(1) if directory else _DEFAULT_DIRECTORY,
        output_schema=output.get("schema") if output.get("type") == "json_schema" else None,
    )


def _exchanges(messages: Sequence[Mapping[str, Any]]) -> tuple[Exchange, ...]:
    exchanges: list[Exchange] = []
    pending: dict[str, ToolUse] = {}
    for message in messages:
        if message["role"] == "user":
            results = [block for block in _blocks(message) if block.get("type") == "tool_result"]
            for block in results:
                _finish(exchanges, pending, block)
            exchanges += _prompted(message)
        elif message["role"] == "assistant" and exchanges:
            answer = _text(message["content"]).strip()
            exchanges[-1] = replace(exchanges[-1], answer=answer)
            for block in _blocks(message):
                if block.get("type") == "tool_use":
                    pending[str(block.get("id"))] = ToolUse(str(block.get("name")), block.get("input") or {})
    return tuple(exchanges) or (Exchange(""),)


def _finish(exchanges: list[Exchange], pending: dict[str, ToolUse], block: Mapping[str, Any]) -> None:
    """Put a result to its call, in the exchange that it belongs to."""
    call = pending.pop(str(block.get("tool_use_id")), None)
    if call is None or not exchanges:
        return
    done = ToolUse(call.name, call.input, _text(block.get("content") or ""), bool(block.get("is_error")))
    exchanges[-1] = replace(exchanges[-1], tools=(*exchanges[-1].tools, done), answer="")


def _prompted(message: Mapping[str, Any]) -> list[Exchange]:
    """Return what a user's message adds: direct turns before it, interrupted prompts, and its own prompt."""
    text = _text(message["content"])
    for tag in _ADDED:
        text = without(text, tag)
    text, direct = without_earlier(text)
    text, gathered = without_gathered(text)
    text = without(text, "context")
    prompts = [prompt.strip() for prompt in _INTERRUPTED.split(text)]
    return [
        *(Exchange(prompt, answer=answer) for prompt, answer in direct),
        *(Exchange(prompt, gathered=gathered) for prompt in prompts if prompt),
    ]


def _blocks(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    content = message["content"]
    return content if isinstance(content, list) else []


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return json.dumps(content)
    return "\n".join(
        str(block.get("text", ""))
        for block in content
        if isinstance(block, dict) and block.get("type") == "text"
    )
