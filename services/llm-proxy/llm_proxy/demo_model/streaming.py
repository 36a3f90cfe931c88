"""The demo model's answers as a stream of the Messages API."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from llm_proxy.demo_model.answering import answer
from llm_proxy.demo_model.conversation import read_conversation
from llm_proxy.messages.request import DEFAULT_MAX_TOKENS
from llm_proxy.messages.sse import event

# One word at a time, like a real model.
_PIECE: Final = re.compile(r"\S+\s*|\s+")
_JSON_PIECE: Final = 24
_BYTES_PER_TOKEN: Final = 4


def stream(body: Mapping[str, Any], size: int, model: str) -> Iterator[bytes]:
    """Yield the events of the answer to a checked request; `size` is its bytes, for the count of tokens.

    An answer longer than the request's `max_tokens` is cut there, with the stop reason `max_tokens`. A
    tool call that does not fit is left out.
    """
    reply = answer(read_conversation(body))
    room = int(body.get("max_tokens", DEFAULT_MAX_TOKENS)) * _BYTES_PER_TOKEN
    value = json.dumps(dict(reply.input or {}), ensure_ascii=False) if reply.tool else ""
    cut = len(reply.text) + len(value) > room
    text, value = reply.text[:room], "" if cut else value
    identity = hashlib.sha256(json.dumps(body.get("messages"), sort_keys=True).encode()).hexdigest()[:24]
    message: dict[str, Any] = {
        "id": f"msg_demo{identity}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": _tokens(size), "output_tokens": 1},
    }
    yield event("message_start", message=message)
    index = 0
    if text:
        yield from _text_block(index, text)
        index += 1
    if value:
        yield from _tool_block(index, f"toolu_demo{identity}", reply.tool, value)
    reason = "max_tokens" if cut else "tool_use" if reply.tool else "end_turn"
    usage = {"output_tokens": _tokens(len(text) + len(value))}
    yield event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)
    yield event("message_stop")


def count_tokens(size: int) -> int:
    """Return how many tokens a request of this many bytes counts as."""
    return _tokens(size)


def _text_block(index: int, text: str) -> Iterator[bytes]:
    yield event("content_block_start", index=index, content_block={"type": "text", "text": ""})
    for piece in _PIECE.findall(text):
        yield event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=index)


def _tool_block(index: int, identity: str, name: str, text: str) -> Iterator[bytes]:
    """Yield a tool call whose input is this JSON text, which may be cut."""
    block = {"type": "tool_use", "id": identity, "name": name, "input": {}}
    yield event("content_block_start", index=index, content_block=block)
    for start in range(0, len(text), _JSON_PIECE):
        delta = {"type": "input_json_delta", "partial_json": text[start : start + _JSON_PIECE]}
        yield event("content_block_delta", index=index, delta=delta)
    yield event("content_block_stop", index=index)


def _tokens(size: int) -> int:
    return max(1, size // _BYTES_PER_TOKEN)
