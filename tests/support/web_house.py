"""What the browser's tests need beside the suite: a scripted model, and a hand on the suite's processes.

A prompt that says `play:<scene>` gets that scene. A scene is a list of steps, each the answer to one call of
the model: after each tool that ran comes the next one. `POST /control/open/<gate>` lets an answer go on that
waits at a gate, `POST /control/kill/<service>` kills a service of the suite, `POST /control/down/<service>`
does so and keeps it from coming back until `POST /control/up/<service>`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from support.suite import Suite

# A gate that nobody opens must not hold a test run for ever; longer than any one test may take.
GATE_SECONDS = 300
# As much as a packet holds; a megabyte in small pieces would only measure the translation of formats.
_PIECE = 8192


@dataclass(frozen=True)
class Text:
    """The model says something; with a gate, it says `after` once the gate has been opened."""

    text: str
    gate: str = ""
    after: str = ""


@dataclass(frozen=True)
class Tool:
    """The model calls a tool."""

    name: str
    input: Mapping[str, Any]


@dataclass(frozen=True)
class Failing:
    """The provider answers with an error; with `then`, only the first time that it is asked."""

    status: int
    then: str = ""


Step = Text | Tool | Failing

HOSTILE = (
    '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>\n\n'
    '[click](javascript:window.pwned=3) <a href="javascript:window.pwned=4">link</a> '
    "![x](javascript:window.pwned=5) "
    "![remote](https://evil.example/p.png)\n\n"
    "\x1b[31mred\x1b[0m and \u202eevil\u202c bidi, [data](data:text/html,<script>window.pwned=6</script>)\n\n"
    '<svg onload=window.pwned=7><iframe srcdoc="<script>parent.pwned=8</script>"></iframe>\n\n'
    "harmless after all"
)
_HOSTILE_COMMAND = "printf '\\033[31m<img src=x onerror=window.pwned=9>\\033[0m \\342\\200\\256dlrow'"
_QUESTIONS = [
    {
        "question": "Which database should it use?",
        "header": "Database",
        "multiSelect": False,
        "options": [
            {"label": "SQLite", "description": "One file"},
            {"label": "PostgreSQL", "description": "For more than one machine"},
        ],
    }
]

SCENES: Mapping[str, Sequence[Step]] = {
    "gate": [Text("The first half. ", gate="gate", after="The second half.")],
    "tool-then-gate": [
        Tool("Bash", {"command": "echo one", "description": "Say one"}),
        Text("After the tool. ", gate="tool-then-gate", after="All done."),
    ],
    "hostile": [Tool("Bash", {"command": _HOSTILE_COMMAND}), Text(HOSTILE)],
    # No piece twice: LiteLLM takes a model that repeats itself for broken.
    "line": [Text("".join(f"{number:08d}" for number in range(128 * 1024)))],
    "lines": [Text("\n".join(f"line {number}" for number in range(100_000)))],
    "ask": [
        Tool("Bash", {"command": "touch asked.txt", "description": "Make a file"}),
        Text("I went on from there."),
    ],
    "question": [Tool("AskUserQuestion", {"questions": _QUESTIONS}), Text("Thank you for the answer.")],
    "helper": [
        Tool(
            "Agent",
            {"description": "Look around", "prompt": "play:inside", "subagent_type": "general-purpose"},
        ),
        Text("The helper is back."),
    ],
    "inside": [Tool("Bash", {"command": "echo inside"}), Text("I have looked around.")],
    "edit": [
        Tool("Write", {"file_path": "/workspace/app.py", "content": "import os\n\nprint('one')\n"}),
        Tool("Read", {"file_path": "/workspace/app.py"}),
        Tool(
            "Edit",
            {"file_path": "/workspace/app.py", "old_string": "print('one')", "new_string": "print('two')"},
        ),
        Text("It says **two** now."),
    ],
    "stumbles": [Failing(503, then="Up again.")],
    "refuses": [Failing(401)],
    "markdown": [
        Text(
            "# What I found\n\nTwo *things*:\n\n1. `greet()` has **no** test\n2. see [the page](https://example.com)\n\n"
            "```python\ndef greet():\n    return 'hello'\n```\n\n| a | b |\n| --- | ---: |\n| 1 | 2 |\n"
        )
    ],
}


@dataclass
class WebHouse:
    """The scripted model and the suite behind it."""

    url: str = ""
    suite: Suite | None = None
    stumbled: set[Failing] = field(default_factory=set)
    """Errors that have been answered with."""
    waiting: dict[str, asyncio.Event] = field(default_factory=dict)
    """The answer that waits at each gate; a later one takes the place of one that nobody let through."""
    down: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """Services that are kept from coming back."""

    async def open_gate(self, request: web.Request) -> web.Response:
        """Let the answer through that waits at the gate, or 409: nobody waits yet."""
        waiting = self.waiting.pop(request.match_info["gate"], None)
        if waiting is None:
            return web.Response(status=409)
        waiting.set()
        return web.Response()

    async def kill(self, request: web.Request) -> web.Response:
        """Kill a service of the suite."""
        self._kill(request.match_info["service"])
        return web.Response()

    async def take_down(self, request: web.Request) -> web.Response:
        """Kill a service of the suite, and again each time it comes back, until `bring_up`."""
        service = request.match_info["service"]
        self._kill(service)
        self.down[service] = asyncio.create_task(self._keep_down(service))
        return web.Response()

    async def bring_up(self, request: web.Request) -> web.Response:
        """Let a service come back."""
        self.down.pop(request.match_info["service"]).cancel()
        return web.Response()

    async def _keep_down(self, service: str) -> None:
        while True:
            await asyncio.sleep(0.05)
            with suppress(LookupError, ProcessLookupError):
                self._kill(service)

    def _kill(self, service: str) -> None:
        assert self.suite is not None
        os.kill(self.suite.pid(service), signal.SIGKILL)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer one call of the model, in OpenAI's shape."""
        body = await request.json()
        step = step_for(body["messages"])
        if isinstance(step, Failing) and step.then and step in self.stumbled:
            step = Text(step.then)
        if isinstance(step, Failing):
            self.stumbled.add(step)
            return web.json_response(
                {"error": {"message": "scripted", "code": step.status}}, status=step.status
            )
        if not body.get("stream"):
            return web.json_response(_whole(step))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        async for choice in self._choices(step):
            line = {**_BASE, "object": "chat.completion.chunk", "choices": [choice]}
            await response.write(f"data: {json.dumps(line)}\n\n".encode())
        last = {**_BASE, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE}
        await response.write(f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n".encode())
        await response.write_eof()
        return response

    async def _choices(self, step: Text | Tool) -> AsyncIterator[dict[str, Any]]:
        if isinstance(step, Tool):
            call = {"name": step.name, "arguments": json.dumps(step.input)}
            tool_call = {
                "index": 0,
                "id": f"call_{os.urandom(6).hex()}",
                "type": "function",
                "function": call,
            }
            yield _choice({"role": "assistant", "content": None, "tool_calls": [tool_call]})
            yield _choice({}, "tool_calls")
            return
        # Whoever reads the text before the gate opens this one, and none that an answer before has left.
        opened = asyncio.Event()
        if step.gate:
            self.waiting[step.gate] = opened
        for piece in _pieces(step.text):
            yield _choice({"role": "assistant", "content": piece})
        if step.gate:
            await asyncio.wait_for(opened.wait(), GATE_SECONDS)
            yield _choice({"content": step.after})
        yield _choice({}, "stop")


_BASE = {"id": "chatcmpl-1", "created": 1, "model": "scripted"}
_USAGE = {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150}


def _choice(delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": reason}


def _whole(step: Step) -> dict[str, Any]:
    text = step.text + step.after if isinstance(step, Text) else ""
    message = {"role": "assistant", "content": text}
    return {
        **_BASE,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _USAGE,
        "service_tier": "auto",
    }


def _pieces(text: str) -> list[str]:
    size = 6 if len(text) < 4096 else _PIECE
    return [text[start : start + size] for start in range(0, len(text), size)]


# What the agent says in the user's name beside the prompt, as tags or as messages of their own.
_REMINDER = re.compile(
    r"<system-reminder>.*?</system-reminder>|\AOperator note \(not from the user\).*", re.DOTALL
)


def step_for(messages: Sequence[Mapping[str, Any]]) -> Step:
    """Return the step that comes next in the last prompt's scene, after as many tools as have run since."""
    for index in range(len(messages) - 1, -1, -1):
        text = _REMINDER.sub("", _text(messages[index].get("content")))
        if messages[index]["role"] != "user" or not text.strip():
            continue
        scene = re.findall(r"play:([a-z-]+)", text)
        steps = SCENES.get(scene[-1] if scene else "", [Text("ok")])
        done = sum(1 for message in messages[index:] if message["role"] == "tool")
        return steps[min(done, len(steps) - 1)]
    return Text("ok")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    return "\n".join(part.get("text", "") for part in content if isinstance(part, dict))


@contextmanager
def web_house() -> Iterator[WebHouse]:
    """Serve the scripted model while inside, in a thread of its own."""
    house = WebHouse()
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", house.complete)
        app.router.add_post("/control/open/{gate}", house.open_gate)
        app.router.add_post("/control/kill/{service}", house.kill)
        app.router.add_post("/control/down/{service}", house.take_down)
        app.router.add_post("/control/up/{service}", house.bring_up)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        house.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await stopping.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield house
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(60)
