"""R_warm and R_token: a warm turn through the whole house beside the bare agent SDK, in one run.

    python bench/warm.py [--rounds 100] [--json out.json]

The house runs as `make run` starts it. The model is a stub process whose every token says when its call came
and when it was sent; a client on the same machine compares that with its own clock. R_warm is the time to the
first token; R_token that from the stub to the client, of every token; beside them, how much later the model
is asked. The arms take turns in random order. Prints medians with quartiles; exits 1 past a gate. No test:
what it prints depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Read when gRPC starts.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import uvloop
from aiohttp import web
from claude_agent_sdk import ClaudeSDKClient, StreamEvent
from pointsman.router.v1 import router_service_pb2, router_service_pb2_grpc
from pointsman.session.v1 import turn_pb2
from pointsman_client import AsyncClient
from servicekit import logs
from servicekit.channels import service_channel
from servicekit.testing import free_port
from turns import bare_options

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.suite import Suite, descendants, running

GATES = {"R_warm": 1.5, "R_token": 2.5}
MODEL = "anthropic/claude-sonnet-4-5"
TOKENS = 20
# A fast model's; without a pause the last token would wait for the ones before it in every arm.
PAUSE_SECONDS = 0.005


def _event(kind: str, **data: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def _message(content: list[dict[str, str]]) -> dict[str, object]:
    usage = {"input_tokens": 10, "output_tokens": TOKENS}
    return {
        "id": f"msg_{time.monotonic_ns()}",
        "type": "message",
        "role": "assistant",
        "model": "stub",
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }


async def _answer(request: web.Request) -> web.StreamResponse:
    arrived = time.monotonic_ns()
    body = await request.json()
    if not body.get("stream"):
        return web.json_response(_message([{"type": "text", "text": "ok"}]))
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    start = {**_message([]), "stop_reason": None}
    await response.write(_event("message_start", message=start))
    await response.write(_event("content_block_start", index=0, content_block={"type": "text", "text": ""}))
    for _ in range(TOKENS):
        text = {"type": "text_delta", "text": f"{arrived} {time.monotonic_ns()}\n"}
        await response.write(_event("content_block_delta", index=0, delta=text))
        await asyncio.sleep(PAUSE_SECONDS)
    await response.write(_event("content_block_stop", index=0))
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    await response.write(_event("message_delta", delta=stop, usage={"output_tokens": TOKENS}))
    await response.write(_event("message_stop"))
    await response.write_eof()
    return response


async def _count(request: web.Request) -> web.Response:
    return web.json_response({"input_tokens": 10})


async def _serve_stub(port: int) -> None:
    """Be a model that stamps its tokens."""
    application = web.Application(client_max_size=2**26)
    application.router.add_post("/v1/messages", _answer)
    application.router.add_post("/v1/messages/count_tokens", _count)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


@dataclass
class Times:
    """Of one arm's turns, in seconds."""

    first: list[float] = field(default_factory=list)
    """From the prompt to the first token."""
    asked: list[float] = field(default_factory=list)
    """From the prompt to the model's being asked."""
    token: list[float] = field(default_factory=list)
    """From the stub to the client, of every token."""
    cpu: list[float] = field(default_factory=list)
    """Of all processes but the stub's, the client's included, by turn."""

    async def take(self, texts: AsyncIterator[str]) -> None:
        """Run a turn, which begins when its texts are asked for."""
        began = time.monotonic_ns()
        left, tokens = "", 0
        async for text in texts:
            now = time.monotonic_ns()
            *stamps, left = (left + text).split("\n")
            for stamp in stamps:
                arrived, sent = (int(part) for part in stamp.split())
                if tokens == 0:
                    self.first.append((now - began) / 1e9)
                    self.asked.append((arrived - began) / 1e9)
                tokens += 1
                self.token.append((now - sent) / 1e9)
        if tokens != TOKENS:
            raise RuntimeError(f"{tokens} tokens came")


def cpu_seconds(stub: int) -> float:
    """Return what this process and all that it started but the stub have used of the CPU."""
    pids = {os.getpid()} | descendants(os.getpid()) - {stub}
    nanoseconds = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            # One that ended meanwhile had little to do.
            with contextlib.suppress(OSError):
                nanoseconds += int(thread.read_text().split()[0])
    return nanoseconds / 1e9


async def bare(client: ClaudeSDKClient) -> AsyncIterator[str]:
    """Yield a turn's text from the agent SDK."""
    await client.query("Hello")
    async for message in client.receive_response():
        if isinstance(message, StreamEvent) and message.event["type"] == "content_block_delta":
            yield message.event["delta"]["text"]


async def run_turn(stub: Any, session: str, key: str) -> AsyncIterator[str]:
    """Yield a turn's text from one call to the edge."""
    request = router_service_pb2.RunTurnRequest(
        session=session, prompt="Hello", model=MODEL, route=turn_pb2.TURN_ROUTE_AGENT
    )
    text = Text()
    async for answer in stub.RunTurn(request, metadata=[("authorization", f"Bearer {key}")], timeout=60):
        yield text.new_in(answer.event)


async def follow(client: AsyncClient, session: str) -> AsyncIterator[str]:
    """Yield a turn's text from the Python client, which starts the turn and watches the session."""
    text = Text()
    async for event in client.run_turn(
        "Hello", session=session, model=MODEL, route=turn_pb2.TURN_ROUTE_AGENT
    ):
        yield text.new_in(event)


class Text:
    """What a client has of a turn's text: pieces, and at the end the whole, which may have more than they."""

    def __init__(self) -> None:
        self._had = 0

    def new_in(self, event: Any) -> str:
        """Return what an event adds to it."""
        if event.WhichOneof("kind") == "turn_finished" and event.turn_finished.error.reason:
            raise RuntimeError(str(event.turn_finished.error))
        new = str(event.text_delta.text or event.assistant_message.text[self._had :])
        self._had += len(new)
        return new


async def measure(suite: Suite, stub: int, url: str, folder: Path, rounds: int) -> dict[str, Times]:
    """Return each arm's times."""
    async with (
        service_channel(f"127.0.0.1:{suite.port}", signer=None) as channel,
        AsyncClient(suite.url, suite.key) as client,
        ClaudeSDKClient(bare_options(url, folder, MODEL)) as sdk,
    ):
        router = router_service_pb2_grpc.RouterServiceStub(channel)
        sessions = [(await client.create_session()).name for _ in range(2)]
        arms: dict[str, Callable[[], AsyncIterator[str]]] = {
            "bare": lambda: bare(sdk),
            "through the edge, RunTurn": lambda: run_turn(router, sessions[0], suite.key),
            "through the edge, the client": lambda: follow(client, sessions[1]),
        }

        async def turns(count: int) -> dict[str, Times]:
            times = {name: Times() for name in arms}
            for _ in range(count):
                for name in random.sample(list(arms), len(arms)):
                    before = cpu_seconds(stub)
                    await times[name].take(arms[name]())
                    times[name].cpu.append(cpu_seconds(stub) - before)
            return times

        await turns(3)
        return await turns(rounds)


def bench(rounds: int) -> dict[str, Times]:
    """Start everything, warm up, measure."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        stub = subprocess.Popen([sys.executable, __file__, "--stub", str(port)])
        stack.callback(stub.wait)
        stack.callback(stub.kill)
        url = f"http://127.0.0.1:{port}"
        environ = {
            "ANTHROPIC_API_KEY": "sk-ant-none",
            "ANTHROPIC_API_BASE": url,
            "POINTSMAN_LOG_LEVEL": "error",
            # The bare one has no limit either.
            "POINTSMAN_INSTANCE_TYPE": "standard-4",
        }
        suite = stack.enter_context(running(environ))
        return uvloop.run(measure(suite, stub.pid, url, folder, rounds))


def _row(name: str, values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{name:>54} {middle * 1000:8.2f} ms ±{(high - low) * 1000:.2f}"


def main() -> int:
    """Print the table; 1 past a gate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--stub", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logs.configure("bench", "error")
    if arguments.stub:
        uvloop.run(_serve_stub(arguments.stub))
    times = bench(arguments.rounds)
    for name, arm in times.items():
        print(_row(f"{name}: first token", arm.first))
        print(_row("model asked", arm.asked))
        print(_row("a token, from the model to the client", arm.token))
        print(_row("CPU of a turn", arm.cpu))
    bare_times, ours = times["bare"], times["through the edge, RunTurn"]
    middle = statistics.median
    found = {
        "R_warm": middle(ours.first) / middle(bare_times.first),
        "R_token": middle(ours.token) / middle(bare_times.token),
    }
    later = (middle(ours.asked) - middle(bare_times.asked)) * 1000
    for name, value in found.items():
        print(f"{name:>54} {value:8.2f}    gate {GATES[name]:g}")
    print(f"{'the model is asked later by':>54} {later:8.2f} ms")
    if arguments.json:
        milliseconds = {
            name: {what: round(middle(values) * 1000, 3) for what, values in vars(arm).items()}
            for name, arm in times.items()
        }
        found_too = {**found, "asked_later_ms": later, "milliseconds": milliseconds}
        arguments.json.write_text(json.dumps(found_too, indent=2))
    return 1 if any(value > GATES[name] for name, value in found.items()) else 0


if __name__ == "__main__":
    sys.exit(main())
