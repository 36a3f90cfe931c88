"""Ids of messages and tool calls, which clients tell them apart by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

# What Anthropic's API takes back in a later request.
_TOOL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")


class Ids:
    """Ids that are unique within a conversation.

    Anthropic's own are. Other servers number from 1 in every answer, leave ids out, or use signs that
    Anthropic's API refuses in the history once the session changes to one of its models. Claude Code merges
    messages of one id, so an answer would be taken for a part of an earlier one.
    """

    def __init__(self, call_id: str, messages: Sequence[Mapping[str, Any]]) -> None:
        self.message = f"msg_{call_id}"
        self._call_id = call_id
        self._messages = messages
        self._used: set[str] | None = None

    def tool(self, given: Any) -> str:
        """Return an id for a tool call: the given one if it can be used."""
        if self._used is None:
            self._used = set(_tool_ids(self._messages))
        known = isinstance(given, str) and _TOOL_ID.fullmatch(given) is not None and given not in self._used
        chosen = str(given) if known else f"toolu_{self._call_id}_{len(self._used)}"
        self._used.add(chosen)
        return chosen


def _tool_ids(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        str(block.get("id"))
        for message in messages
        if isinstance(message.get("content"), list)
        for block in message["content"]
        if isinstance(block, Mapping) and block.get("type") == "tool_use"
    ]
