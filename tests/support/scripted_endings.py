"""Models that end their answers in every way there is, in Anthropic's form and in OpenAI's.

A model's name says how it ends: `ending-output-limit`. To a conversation that asks "And now?" each of them
answers as it should, so that a test sees whether the session can still be used.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from support.scripted_openai import (
    Answer,
    ScriptedUpstream,
    anthropic_blocks,
    anthropic_text,
    scripted_upstream,
)

HALF: Final = "The first half of the answ"
NEXT: Final = "And now?"
FINE: Final = "Fine."
PREFIX: Final = "ending-"

# How each provider says that the conversation is too long for the model.
TOO_LONG: Final[Mapping[str, str]] = {
    "anthropic": "prompt is too long: 250000 tokens > 200000 maximum",
    "openai": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8900 "
    "in the messages, 100 in the completion). Please reduce the length of the messages or completion.",
    "groq": "Please reduce the length of the messages or completion.",
    "openrouter": "This endpoint's maximum context length is 131072 tokens. However, you requested about "
    "140000 tokens (140000 of text input). Please reduce the length of either one.",
}
_TEXT: Final[Sequence[Any]] = [({"type": "text", "text": ""}, [{"type": "text_delta", "text": HALF}])]
_CALL: Final[Sequence[Any]] = [
    (
        {"type": "tool_use", "id": "toolu_cut", "name": "Bash", "input": {}},
        [{"type": "input_json_delta", "partial_json": '{"comm'}],
    )
]


def anthropic(body: Mapping[str, Any]) -> Answer:
    """Play a provider of the Messages API."""
    kind = _kind(body)
    if not body.get("stream") and kind == "error-within" and body.get("max_tokens") != 1:
        # An agent whose stream broke off asks once more without one.
        return _json(502, {"error": "upstream went away"})
    if not body.get("stream"):
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "stop_reason": "end_turn",
        }
        usage = {"input_tokens": 3, "output_tokens": 1}
        content = [{"type": "text", "text": "ok"}]
        return _json(200, {**message, "content": content, "stop_sequence": None, "usage": usage})
    if kind in ("too-long", "policy"):
        return _json(
            400, {"type": "error", "error": {"type": "invalid_request_error", "message": _said(body)}}
        )
    whole = anthropic_text(HALF)
    answers = {
        "complete": whole,
        "output-limit": anthropic_blocks(_TEXT, stop="max_tokens"),
        "empty-limit": anthropic_blocks([], stop="max_tokens"),
        "cut-call": anthropic_blocks(_CALL, stop="max_tokens"),
        "refusal": anthropic_blocks(_TEXT, stop="refusal"),
        "context-window": anthropic_blocks(_TEXT, stop="model_context_window_exceeded"),
        "pause": anthropic_blocks(_TEXT, stop="pause_turn"),
        "no-usage": _edited(whole, _without_usage),
        "cut-at-the-end": replace(whole, chunks=whole.chunks[:-1], end="cut"),
        "error-within": replace(whole, chunks=(*whole.chunks[:3], _error_within())),
    }
    return answers.get(kind) or anthropic_text(FINE)


def openai(body: Mapping[str, Any]) -> Answer:
    """Play a provider of the Chat Completions API."""
    kind = _kind(body)
    if kind in ("too-long", "policy"):
        return _json(400, {"error": {"message": _said(body), "type": "invalid_request_error", "code": None}})
    call = {
        "index": 0,
        "id": "call_cut",
        "type": "function",
        "function": {"name": "Bash", "arguments": '{"comm'},
    }
    plain: dict[str, tuple[Sequence[Mapping[str, Any]], str]] = {
        "complete": (_SAID, "stop"),
        "output-limit": (_SAID, "length"),
        "empty-limit": ([{"role": "assistant", "content": ""}], "length"),
        "cut-call": ([{"role": "assistant", "content": None, "tool_calls": [call]}], "length"),
        "refusal": (_SAID, "content_filter"),
    }
    if kind in plain:
        return _chunks(*plain[kind])
    whole = _chunks(_SAID, "stop")
    if kind == "no-usage":
        return replace(whole, chunks=(*whole.chunks[:-2], whole.chunks[-1]))
    if kind == "cut-at-the-end":
        return replace(whole, chunks=whole.chunks[:-1], end="cut")
    if kind == "error-within":
        return replace(whole, chunks=(*whole.chunks[:2], _error_within()))
    return _chunks([{"role": "assistant", "content": FINE}], "stop")


_SAID: Final[Sequence[Mapping[str, Any]]] = [{"role": "assistant", "content": HALF}]


def _chunks(deltas: Sequence[Mapping[str, Any]], reason: str) -> Answer:
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    lines: list[Mapping[str, Any]] = [
        *({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas),
        {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        {**base, "choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}},
    ]
    return Answer((*(f"data: {json.dumps(line)}\n\n".encode() for line in lines), b"data: [DONE]\n\n"))


def _error_within() -> bytes:
    return b'data: {"error":{"message":"upstream went away","code":502}}\n\n'


def _kind(body: Mapping[str, Any]) -> str:
    goes_on = NEXT in json.dumps(body["messages"]) or "detailed summary" in json.dumps(body["messages"])
    return "fine" if goes_on else str(body["model"]).rpartition("/")[2].removeprefix(PREFIX).partition(".")[0]


def _said(body: Mapping[str, Any]) -> str:
    provider = str(body["model"]).rpartition(".")[2]
    return TOO_LONG[provider] if _kind(body) == "too-long" else "Blocked by our content policy."


def _json(status: int, body: Mapping[str, Any]) -> Answer:
    return Answer((json.dumps(body).encode(),), status, {"content-type": "application/json"})


def _without_usage(event: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in event.items() if name != "usage"}
    message = event.get("message")
    if isinstance(message, dict):
        rest["message"] = {name: value for name, value in message.items() if name != "usage"}
    return rest


def _edited(answer: Answer, edit: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Answer:
    def edited(chunk: bytes) -> bytes:
        head, _, data = chunk.partition(b"data: ")
        return head + b"data: " + json.dumps(edit(json.loads(data))).encode() + b"\n\n"

    return replace(answer, chunks=tuple(map(edited, answer.chunks)))


@contextmanager
def served(script: Callable[[Mapping[str, Any]], Answer]) -> Iterator[ScriptedUpstream]:
    """Serve a script in a thread of its own, for tests that wait for a suite."""
    ready: list[ScriptedUpstream] = []
    started = threading.Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        async with scripted_upstream(script) as provider:
            ready.append(provider)
            started.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        assert started.wait(60)
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(60)
