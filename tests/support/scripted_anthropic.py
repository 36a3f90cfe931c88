"""A scripted model behind the Anthropic Messages API, over real HTTP, for tests.

Give it a list of replies; each call to `POST /v1/messages` takes the next one, the last one stays. It keeps
what it was asked. Small calls beside the conversation (a warm-up of one token) do not use up replies.

    async with scripted_anthropic([Reply.tool("Write", {...}), Reply.text("Done.")]) as model:
        ...  # model.url, model.requests
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Reply:
    """What the model answers to one call."""

    blocks: tuple[Mapping[str, Any], ...] = ()
    status: int = 200
    error: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    piece: int = 8
    """Characters of text per delta."""
    delay: float = 0.0
    """Seconds before each delta."""
    stall: bool = False
    """Begin to answer, then say nothing until the caller goes away."""
    before: asyncio.Event | None = None
    """Wait for it before the first byte."""
    middle: asyncio.Event | None = None
    """Wait for it after the first delta of text."""
    notes: tuple[str, ...] = ()
    """SSE comment lines to send before the end, such as `pointsman-usage {...}`."""
    cut: bool = False
    """End with an error event instead of the answer's end, after the notes."""
    stop: str = ""
    """The stop reason; empty for the one that fits the blocks."""
    message: str = ""
    """What an error says; empty for a text that names its kind."""

    @classmethod
    def text(cls, text: str, **options: Any) -> Reply:
        """Answer with text."""
        return cls(({"type": "text", "text": text},), **options)

    @classmethod
    def tool(cls, name: str, tool_input: Mapping[str, Any] | str, text: str = "", **options: Any) -> Reply:
        """Call a tool, after some text."""
        said = ({"type": "text", "text": text},) if text else ()
        return cls((*said, {"type": "tool_use", "name": name, "input": tool_input}), **options)

    @classmethod
    def failing(cls, status: int, error: str = "overloaded_error", **headers: str) -> Reply:
        """Answer with an HTTP error in Anthropic's shape."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status=status, error=error, headers=named)


@dataclass
class Asked:
    """A call that came."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    at: float
    """When, by the monotonic clock."""


Script = Sequence[Reply] | Callable[[Mapping[str, Any]], Reply]


class ScriptedAnthropic:
    """The model's server. `script` is a list of replies, or a function from a call's body to one."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Asked] = []
        self.aborted = 0
        """Calls whose caller went away before the end."""
        self.url = ""
        self._taken = 0

    @property
    def prompts(self) -> list[Mapping[str, Any]]:
        """The bodies of the calls that took a reply."""
        return [asked.body for asked in self.requests if _is_turn(asked.body)]

    def application(self) -> web.Application:
        """Return the routes, to be served anywhere."""
        app = web.Application(client_max_size=64 * 1024 * 1024, handler_args={"handler_cancellation": True})
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        app.router.add_get("/v1/models", self._models)
        return app

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(Asked(request.path, dict(request.headers), body, time.monotonic()))
        if not _is_turn(body):
            return web.json_response(_message(body, [{"type": "text", "text": "ok"}]))
        reply = self._next(body)
        if reply.before is not None:
            await reply.before.wait()
        if reply.status != 200:
            said = reply.message or f"scripted {reply.error}"
            error = {"type": "error", "error": {"type": reply.error, "message": said}}
            return web.json_response(error, status=reply.status, headers=reply.headers)
        if not body.get("stream"):
            return web.json_response(_message(body, _with_ids(reply.blocks)), headers=reply.headers)
        return await self._stream(request, body, reply)

    def _next(self, body: Mapping[str, Any]) -> Reply:
        if callable(self.script):
            return self.script(body)
        reply = self.script[min(self._taken, len(self.script) - 1)]
        self._taken += 1
        return reply

    async def _stream(
        self, request: web.Request, body: Mapping[str, Any], reply: Reply
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", **reply.headers})
        await response.prepare(request)
        try:
            for kind, data in _events(body, reply):
                if kind == "content_block_delta" and reply.delay:
                    await asyncio.sleep(reply.delay)
                if kind == "message_delta":
                    if reply.stall:
                        await asyncio.Event().wait()
                    for note in reply.notes:
                        await response.write(f": {note}\n\n".encode())
                    if reply.cut:
                        error = {"type": "error", "error": {"type": "api_error", "message": "cut"}}
                        await response.write(f"event: error\ndata: {json.dumps(error)}\n\n".encode())
                        break
                await response.write(f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode())
                if kind == "content_block_delta" and reply.middle is not None:
                    await reply.middle.wait()
            await response.write_eof()
        except (asyncio.CancelledError, ConnectionResetError):
            self.aborted += 1
            raise
        return response

    async def _count_tokens(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(Asked(request.path, dict(request.headers), body, time.monotonic()))
        return web.json_response({"input_tokens": len(json.dumps(body)) // 4})

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [], "has_more": False})


def _is_turn(body: Mapping[str, Any]) -> bool:
    return bool(body.get("max_tokens", 2) != 1)


def _with_ids(blocks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    stamp = time.monotonic_ns()
    return [
        {"id": f"toolu_{stamp}_{number}", **block} if block["type"] == "tool_use" else block
        for number, block in enumerate(blocks)
    ]


def _message(body: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tools = any(block["type"] == "tool_use" for block in blocks)
    return {
        "id": f"msg_{time.monotonic_ns()}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", ""),
        "content": list(blocks),
        "stop_reason": "tool_use" if tools else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


def _events(body: Mapping[str, Any], reply: Reply) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the events of a streamed answer."""
    message = _message(body, _with_ids(reply.blocks))
    start = {**message, "content": [], "stop_reason": None}
    events: list[tuple[str, Mapping[str, Any]]] = [("message_start", {"message": start})]
    for index, block in enumerate(message["content"]):
        events += [(kind, {"index": index, **data}) for kind, data in _block(block, reply.piece)]
    stop = {
        "delta": {"stop_reason": reply.stop or message["stop_reason"], "stop_sequence": None},
        "usage": message["usage"],
    }
    events += [("message_delta", stop), ("message_stop", {})]
    return [(kind, {"type": kind, **data}) for kind, data in events]


def _block(block: Mapping[str, Any], piece: int) -> list[tuple[str, Mapping[str, Any]]]:
    if block["type"] == "tool_use":
        text, empty, kind, key = (
            # A text is sent as it is, valid or not.
            block["input"] if isinstance(block["input"], str) else json.dumps(block["input"]),
            {**block, "input": {}},
            "input_json",
            "partial_json",
        )
    elif block["type"] == "thinking":
        empty = {"type": "thinking", "thinking": "", "signature": ""}
        text, kind, key = block["thinking"], "thinking", "thinking"
    else:
        text, empty, kind, key = block["text"], {"type": "text", "text": ""}, "text", "text"
    deltas = [
        ("content_block_delta", {"delta": {"type": f"{kind}_delta", key: text[at : at + piece]}})
        for at in range(0, len(text), piece)
    ]
    return [("content_block_start", {"content_block": empty}), *deltas, ("content_block_stop", {})]


@asynccontextmanager
async def scripted_anthropic(script: Script, port: int = 0) -> AsyncIterator[ScriptedAnthropic]:
    """Serve a script on loopback, by default on a free port."""
    model = ScriptedAnthropic(script)
    runner = web.AppRunner(
        model.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.5
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    host, port = runner.addresses[0][:2]
    model.url = f"http://{host}:{port}"
    try:
        yield model
    finally:
        await runner.cleanup()
