"""A provider on loopback that plays scripts byte by byte: OpenAI's shape, Anthropic's, or no shape at all.

    async with scripted_upstream([openai_text("Hello"), failing(429, retry_after="1")]) as provider:
        ...  # provider.url, provider.asked

Each call takes the next answer, the last one stays; a function from the call's body to an answer also does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Answer:
    """What a call is answered with. `end`: `close` in order, `cut` the connection, or `stall` for ever."""

    chunks: tuple[bytes, ...]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    end: str = "close"
    usage: tuple[int, int] = (0, 0)
    """Tokens in and out, as the answer says them."""


@dataclass(frozen=True)
class Asked:
    """A call that came."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass
class ScriptedUpstream:
    """The provider's server."""

    script: Sequence[Answer] | Callable[[Mapping[str, Any]], Answer]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    left: int = 0
    """Callers that went away before the end."""
    tokens: list[tuple[int, int]] = field(default_factory=list)
    """Tokens in and out of each answer that was sent to its end: the provider's own bill."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw) if raw else {}
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(Asked(request.path_qs, headers, body))
        answer = self._next(body)
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        await response.prepare(request)
        try:
            for chunk in answer.chunks:
                await response.write(chunk)
                # Each chunk a packet of its own, as far as the kernel goes along.
                await asyncio.sleep(0)
            if answer.end == "stall":
                await asyncio.Event().wait()
        except (asyncio.CancelledError, ConnectionResetError):
            self.left += 1
            raise
        if answer.end == "cut":
            assert request.transport is not None
            request.transport.abort()
            return response
        self.tokens.append(answer.usage)
        await response.write_eof()
        return response

    def _next(self, body: Mapping[str, Any]) -> Answer:
        if callable(self.script):
            return self.script(body)
        return self.script[min(len(self.asked), len(self.script)) - 1]


@asynccontextmanager
async def scripted_upstream(
    script: Sequence[Answer] | Callable[[Mapping[str, Any]], Answer], port: int = 0
) -> AsyncIterator[ScriptedUpstream]:
    """Serve the script while inside."""
    provider = ScriptedUpstream(script)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", provider.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        await runner.cleanup()


def failing(status: int, message: str = "scripted", **headers: str) -> Answer:
    """Answer with an error that both shapes' clients understand."""
    kind = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}.get(
        status, "api_error"
    )
    body = {"type": "error", "error": {"type": kind, "message": message}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer((json.dumps(body).encode(),), status, {"content-type": "application/json", **named})


def bytes_answer(raw: bytes, content_type: str = "text/event-stream", **options: Any) -> Answer:
    """Answer with just these bytes."""
    return Answer((raw,), headers={"content-type": content_type}, **options)


def openai_text(text: str, tokens: tuple[int, int] = (11, 3), *, cached: int = 0, **options: Any) -> Answer:
    """Answer with text, a few characters at a time."""
    deltas = [{"content": piece} for piece in _pieces(text)]
    return _openai([{"role": "assistant", "content": ""}, *deltas], "stop", tokens, cached, **options)


def openai_tool(name: str, tool_input: Mapping[str, Any] | str, tokens: tuple[int, int] = (11, 3)) -> Answer:
    """Call a tool, its input three characters at a time. A text is sent as it is, valid or not."""
    text = tool_input if isinstance(tool_input, str) else json.dumps(tool_input)
    call = next(_CALLS)
    head = {"index": 0, "id": f"call_{call}", "type": "function", "function": {"name": name, "arguments": ""}}
    deltas = [
        {"tool_calls": [{"index": 0, "function": {"arguments": text[start : start + 3]}}]}
        for start in range(0, len(text), 3)
    ]
    return _openai(
        [{"role": "assistant", "content": None, "tool_calls": [head]}, *deltas], "tool_calls", tokens, 0
    )


_CALLS = itertools.count(1)


def _openai(
    deltas: Sequence[Mapping[str, Any]], reason: str, tokens: tuple[int, int], cached: int, **options: Any
) -> Answer:
    usage = {
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "total_tokens": sum(tokens),
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    choices: list[Any] = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    choices.append([{"index": 0, "delta": {}, "finish_reason": reason}])
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    lines = [{**base, "choices": choice} for choice in choices]
    lines.append({**base, "choices": [], "usage": usage})
    chunks = [f"data: {json.dumps(line, ensure_ascii=False)}\n\n".encode() for line in lines]
    return Answer((*chunks, b"data: [DONE]\n\n"), usage=tokens, **options)


def anthropic_text(text: str, tokens: tuple[int, int] = (11, 3), **options: Any) -> Answer:
    """Answer with text in Anthropic's shape."""
    deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(text)]
    return anthropic_blocks([({"type": "text", "text": ""}, deltas)], tokens, **options)


def anthropic_blocks(
    blocks: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]],
    tokens: tuple[int, int] = (11, 3),
    *,
    cached: tuple[int, int] = (0, 0),
    stop: str = "end_turn",
    **options: Any,
) -> Answer:
    """Answer with blocks, each with its deltas. `cached`: tokens read from and written to the cache."""
    usage = {
        "input_tokens": tokens[0],
        "output_tokens": 1,
        "cache_read_input_tokens": cached[0],
        "cache_creation_input_tokens": cached[1],
    }
    message: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted"}
    message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    events: list[tuple[str, Any]] = [("message_start", {"message": message})]
    for index, (block, deltas) in enumerate(blocks):
        events.append(("content_block_start", {"index": index, "content_block": block}))
        events.extend(("content_block_delta", {"index": index, "delta": delta}) for delta in deltas)
        events.append(("content_block_stop", {"index": index}))
    events.append(("ping", {}))
    ending = {"delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": tokens[1]}}
    events += [("message_delta", ending), ("message_stop", {})]
    chunks = tuple(
        f"event: {kind}\ndata: {json.dumps({'type': kind, **data}, ensure_ascii=False)}\n\n".encode()
        for kind, data in events
    )
    return Answer(chunks, usage=tokens, **options)


def recut(answer: Answer, size: int) -> Answer:
    """Return the same bytes in chunks of `size`, so that events and characters are cut in the middle."""
    raw = b"".join(answer.chunks)
    chunks = tuple(raw[start : start + size] for start in range(0, len(raw), size))
    return Answer(chunks, answer.status, answer.headers, answer.end, answer.usage)


def _pieces(text: str) -> list[str]:
    return [text[start : start + 4] for start in range(0, len(text), 4)]
