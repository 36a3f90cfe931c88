"""R_runner, R_cold, R_pool, R_mem: turns in the runner's sandboxes beside the bare agent SDK, in one run.

    python bench/turns.py [--rounds 12] [--json out.json]

The model is a stub that answers at once. Warm turns are timed to the first token; first turns to the moment
the model is asked. `warm.py` has warm turns through the edge.
All arms take turns in random order. Prints medians with quartiles and ratios; exits 1
past a gate. No test: what it prints depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when gRPC starts.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import uvloop
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, StreamEvent
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.runner.v1 import runner_service_pb2_grpc as rpc
from pointsman.session.v1 import event_pb2, turn_pb2
from runner.agent.agent_options import environment
from servicekit import logs
from servicekit.channels import service_channel
from servicekit.testing import Keys, free_port, passport_metadata, serve, test_keys, wait_until

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.runner_peers import TokenPeer, TranscriptPeer
from support.scripted_anthropic import Reply, ScriptedAnthropic, scripted_anthropic

GATES = {"R_runner": 1.5, "R_cold": 1.3, "R_pool": 0.4, "R_mem": 1.8}
MODEL = "bench/model"


@dataclass
class Runner:
    """A runner in a process of its own."""

    stub: rpc.RunnerServiceAsyncStub
    keys: Keys

    def metadata(self) -> Any:
        return passport_metadata(self.keys.signer("session"), scopes={"internal"})

    async def turn(self, session: str) -> float:
        """Run a turn; return when its first token arrived."""
        request = pb.RunTurnRequest(
            turn=f"sessions/{session}/turns/{uuid.uuid4()}", account="a", epoch=1, model=MODEL, prompt="Hello"
        )
        first = 0.0
        async for item in self.stub.RunTurn(request, metadata=self.metadata(), timeout=60):
            kind = item.event.WhichOneof("kind")
            if kind in ("text_delta", "assistant_message"):
                first = first or time.monotonic()
            if kind == "turn_finished" and item.event.turn_finished.outcome != turn_pb2.TURN_STATE_SUCCEEDED:
                raise RuntimeError(str(item.event.turn_finished.error))
        return first

    async def sandboxes(self) -> list[pb.Sandbox]:
        answer = await self.stub.ListSandboxes(
            pb.ListSandboxesRequest(), metadata=self.metadata(), timeout=10
        )
        return list(answer.sandboxes)

    async def hibernate(self, session: str) -> None:
        request = pb.HibernateSandboxRequest(session=f"sessions/{session}")
        await self.stub.HibernateSandbox(request, metadata=self.metadata(), timeout=20)


@asynccontextmanager
async def runner_process(
    keys: Keys, data: Path, addresses: dict[str, str], pool: int
) -> AsyncIterator[Runner]:
    port = free_port()
    environ = {
        **os.environ,
        **addresses,
        "POINTSMAN_RUNNER_ADDRESS": f"127.0.0.1:{port}",
        "POINTSMAN_PASSPORT_KEYS": str(keys.jwks),
        "POINTSMAN_PASSPORT_KEY": str(keys.directory),
        "POINTSMAN_DATA_DIR": str(data),
        "POINTSMAN_POOL_SIZE": str(pool),
        "POINTSMAN_INSTANCE_TYPE": "standard-4",
        "POINTSMAN_LOG_LEVEL": "error",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "runner", env=environ)
    try:
        async with service_channel(f"127.0.0.1:{port}", signer=None) as channel:
            runner = Runner(rpc.RunnerServiceStub(channel), keys)
            await runner.stub.ListSandboxes(
                pb.ListSandboxesRequest(), metadata=runner.metadata(), timeout=30, wait_for_ready=True
            )
            yield runner
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


def bare_options(url: str, folder: Path, model: str = MODEL) -> ClaudeAgentOptions:
    """Return what the runner gives its agents, without a sandbox around it.

    The model's name matters: the CLI says 60 KB more to a model that it knows.
    """
    variables = environment(model)
    for name in ("PATH", "HOME", "ANTHROPIC_UNIX_SOCKET"):
        del variables[name]
    own = {"ANTHROPIC_BASE_URL": url, "CLAUDE_CONFIG_DIR": str(folder / "config"), "TMPDIR": str(folder)}
    return ClaudeAgentOptions(
        cwd=folder,
        env={**variables, **own},
        model=model,
        setting_sources=[],
        strict_mcp_config=True,
        system_prompt={"type": "preset", "preset": "claude_code"},
        permission_mode="acceptEdits",
        max_turns=10,
        include_partial_messages=True,
        # It says that it does not know the model.
        stderr=lambda line: None,
    )


async def bare_turn(client: ClaudeSDKClient) -> float:
    await client.query("Hello")
    first = 0.0
    async for message in client.receive_response():
        if isinstance(message, StreamEvent) and message.event["type"] == "content_block_delta":
            first = first or time.monotonic()
    return first


def private_bytes(client: ClaudeSDKClient) -> int:
    pid = client._transport._process.pid
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


class Bench:
    """The arms. Each returns seconds."""

    def __init__(self, model: ScriptedAnthropic, plain: Runner, pooled: Runner, folder: Path) -> None:
        self.model = model
        self.plain = plain
        self.pooled = pooled
        self.options = bare_options(model.url, folder)
        self.warm = str(uuid.uuid4())
        self.client = ClaudeSDKClient(self.options)

    def _asked(self, since: float) -> float:
        return next(asked.at for asked in self.model.requests if asked.at > since) - since

    async def bare_warm(self) -> float:
        began = time.monotonic()
        return await bare_turn(self.client) - began

    async def our_warm(self) -> float:
        began = time.monotonic()
        return await self.plain.turn(self.warm) - began

    async def bare_cold(self) -> float:
        began = time.monotonic()
        async with ClaudeSDKClient(self.options) as client:
            await bare_turn(client)
        return self._asked(began)

    async def our_cold(self) -> float:
        session, began = str(uuid.uuid4()), time.monotonic()
        await self.plain.turn(session)
        await self.plain.hibernate(session)
        return self._asked(began)

    async def our_pooled(self) -> float:
        async def ready() -> bool:
            boxes = await self.pooled.sandboxes()
            return any(box.state == event_pb2.SANDBOX_STATE_PAUSED for box in boxes)

        await wait_until(ready, timeout=30)
        session, began = str(uuid.uuid4()), time.monotonic()
        await self.pooled.turn(session)
        await self.pooled.hibernate(session)
        return self._asked(began)

    async def our_resumed(self) -> float:
        session = str(uuid.uuid4())
        await self.plain.turn(session)
        await self.plain.hibernate(session)
        began = time.monotonic()
        await self.plain.turn(session)
        await self.plain.hibernate(session)
        return self._asked(began)

    def arms(self) -> dict[str, Callable[[], Awaitable[float]]]:
        return {
            "bare warm turn, first token": self.bare_warm,
            "warm turn, first token": self.our_warm,
            "bare query(), model asked": self.bare_cold,
            "cold first turn, model asked": self.our_cold,
            "pooled first turn, model asked": self.our_pooled,
            "resumed turn, model asked": self.our_resumed,
        }

    async def run(self, rounds: int) -> tuple[dict[str, list[float]], float]:
        """Return all times, and the ratio of memory."""
        async with self.client:
            await self.bare_warm()
            await self.our_warm()
            arms, times = self.arms(), {name: [] for name in self.arms()}
            for _ in range(rounds):
                for name in random.sample(list(arms), len(arms)):
                    times[name].append(await arms[name]())
            (box,) = await self.plain.sandboxes()
            return times, box.memory_bytes / private_bytes(self.client)


def ratios(times: dict[str, list[float]], memory: float) -> dict[str, float]:
    middle = {name: statistics.median(values) for name, values in times.items()}
    return {
        "R_runner": middle["warm turn, first token"] / middle["bare warm turn, first token"],
        "R_cold": middle["cold first turn, model asked"] / middle["bare query(), model asked"],
        "R_pool": middle["pooled first turn, model asked"] / middle["cold first turn, model asked"],
        "R_mem": memory,
    }


async def bench(rounds: int) -> tuple[dict[str, list[float]], float]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keys = test_keys(folder)
        model = await stack.enter_async_context(scripted_anthropic([Reply.text("Hi.", piece=100)]))
        llm_proxy = await stack.enter_async_context(serve(TokenPeer().servicer(), keys=keys))
        session = await stack.enter_async_context(serve(TranscriptPeer().servicer(), keys=keys))
        addresses = {
            "POINTSMAN_LLM_PROXY_ADDRESS": llm_proxy.server.address,
            "POINTSMAN_LLM_PROXY_HTTP_ADDRESS": model.url.removeprefix("http://"),
            "POINTSMAN_SESSION_ADDRESS": session.server.address,
        }
        plain, pooled = [
            await stack.enter_async_context(runner_process(keys, folder / str(pool), addresses, pool))
            for pool in (0, 1)
        ]
        await pooled.turn(str(uuid.uuid4()))
        return await Bench(model, plain, pooled, folder).run(rounds)


def main() -> int:
    """Print the table; 1 past a gate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logs.configure("bench", "error")
    times, memory = uvloop.run(bench(arguments.rounds))
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{name:>32} {middle * 1000:8.1f} ms ±{(high - low) * 1000:.1f}")
    found = ratios(times, memory)
    for name, value in found.items():
        print(f"{name:>32} {value:8.2f}    gate {GATES[name]:g}")
    if arguments.json:
        arguments.json.write_text(json.dumps({**found, "seconds": times}, indent=2))
    return 1 if any(value > GATES[name] for name, value in found.items()) else 0


if __name__ == "__main__":
    sys.exit(main())
