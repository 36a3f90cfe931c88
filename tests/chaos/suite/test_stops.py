"""SIGTERM is never worse than kill -9, at whatever point of a turn it comes.

In each round a turn is held at every point, the whole installation is stopped or killed, and it is started
again on its data. Small by default; `make chaos` does 20 rounds of each kind.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import router_service_pb2
from pointsman.session.v1 import session_service_pb2, turn_pb2
from pointsman_client import AsyncClient
from servicekit.testing import wait_until
from support.scripted_anthropic import Reply, ScriptedAnthropic, scripted_anthropic
from support.suite import STOP_SECONDS, Suite, data_directory, start

FULL = os.environ.get("CHAOS_FULL") == "1"
ROUNDS = 20 if FULL else 1
MODEL = "anthropic/held"
MODELS = """
model_list:
  - model_name: anthropic/*
    litellm_params: {{model: anthropic/*, api_base: "{url}", api_key: test-key-1}}
"""

AGENT_POINTS: Final = ("asked", "middle", "tool", "after", "permission")
"""The model is asked and has said nothing; in the middle of its text; a tool runs; the model is asked for the
second time, after the last tool; the agent waits for a permission."""
POINTS: Final = (*AGENT_POINTS, "waiting", "queued", "direct", "direct-middle")
"""Claimed, but without a sandbox; behind another turn; a direct turn before and in its answer."""
CALLS: Final = {"asked": 1, "middle": 1, "tool": 2, "after": 2, "direct": 1, "direct-middle": 1}
"""How often the model is asked for a turn that ends without being started again."""
SERVICES: Final = ("edge", "llm-proxy", "router", "runner", "session")
KILLED, GO_ON, AT_ONCE, HANG = ("kill -9", "SIGTERM", "SIGTERM to all at once", "SIGTERM, turns hang")
KINDS: Final = (KILLED, GO_ON, AT_ONCE, HANG)
"""How an installation ends. With GO_ON and AT_ONCE its turns can end as soon as the signal is sent, with HANG
they could not. AT_ONCE is how containers are stopped: every service gets the signal, in any order."""

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(3600 if FULL else 300)]


@dataclass
class Round:
    """One installation with a turn at every point."""

    suite: Suite
    model: ScriptedAnthropic
    environ: Mapping[str, str]
    client: AsyncClient
    release: asyncio.Event = field(default_factory=asyncio.Event)
    turns: dict[str, turn_pb2.Turn] = field(default_factory=dict)

    async def hold_all(self) -> None:
        """Bring a new turn to each point, in an order in which `waiting` finds all sandboxes taken."""
        self.release, self.turns = asyncio.Event(), {}
        self.model.script, self.model.requests = script(self.release), []
        for point in AGENT_POINTS:
            await self._begin(point)
        await asyncio.gather(*(self._reached(point) for point in AGENT_POINTS))
        await self._begin("waiting")
        await self._reached("waiting")
        await self._begin("queued", account="asked")
        for point in ("direct", "direct-middle"):
            await self._begin(point, route=turn_pb2.TURN_ROUTE_DIRECT)
            await self._reached(point)

    async def _begin(
        self, point: str, account: str = "", route: turn_pb2.TurnRoute.ValueType = turn_pb2.TURN_ROUTE_AGENT
    ) -> None:
        asks = point == "permission"
        mode = turn_pb2.PERMISSION_MODE_DEFAULT if asks else turn_pb2.PERMISSION_MODE_UNSPECIFIED
        options = turn_pb2.TurnOptions(permission_mode=mode, include_partial_messages=True)
        request = router_service_pb2.StartTurnRequest(
            prompt=f"POINT {point}.", model=MODEL, route=route, account=account or point, options=options
        )
        self.turns[point] = await self.client.start_turn(request, patience=60)

    async def _reached(self, point: str) -> None:
        kind = {
            "middle": "text_delta",
            "direct-middle": "text_delta",
            "permission": "permission_requested",
            "waiting": "turn_started",
        }.get(point)
        if kind is not None:
            async for event in self.client.follow_turn(self.turns[point], patience=60):
                assert not event.HasField("turn_finished"), event
                if event.WhichOneof("kind") == kind:
                    return
        if point == "tool":
            await wait_until(lambda: self._started_tool() is not None, timeout=60)
        else:
            await wait_until(lambda: self.calls()[point] == CALLS[point], timeout=60)

    def _started_tool(self) -> Path | None:
        """Return the file by which the tool says that it runs; none once it may go on."""
        found = (self.suite.data_dir / "runner" / "workspaces").rglob("started")
        return next((path for path in found if not (path.parent / "go").exists()), None)

    def calls(self) -> Counter[str]:
        """Return how often the model was asked for the turn of each point."""
        return Counter(point_of(body) for body in self.model.prompts)

    def let_go(self) -> None:
        """Let everything go on that is held."""
        self.release.set()
        started = self._started_tool()
        if started is not None:
            (started.parent / "go").touch()

    async def end(self, kind: str) -> None:
        """End the installation, and let what is held go on."""
        if kind == AT_ONCE:
            await self._end_at_once()
        if kind in (KILLED, AT_ONCE):
            # What still lives of its services dies with the supervisor.
            self.suite.process.kill()
        else:
            self.suite.process.send_signal(signal.SIGTERM)
        if kind == GO_ON:
            self.let_go()
        await asyncio.to_thread(self.suite.process.wait, STOP_SECONDS)
        if kind in (GO_ON, HANG):
            assert self.suite.process.returncode == 0, self.suite.lines
        self.let_go()

    async def _end_at_once(self) -> None:
        """Send SIGTERM to each service, and wait for their ends. The supervisor does not get to know."""
        pids = [self.suite.pid(service) for service in random.sample(SERVICES, len(SERVICES))]
        self.suite.process.send_signal(signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        self.let_go()
        # A container gets SIGKILL after twenty seconds.
        await wait_until(lambda: all(is_over(pid) for pid in pids), timeout=20)

    async def restart(self) -> None:
        """Start the installation again, on its data and its port."""
        self.suite = start(self.suite.data_dir.parent, self.environ, port=self.suite.port)
        await asyncio.to_thread(self.suite.wait_for_line, "Ready on ")

    async def results(self) -> dict[str, turn_pb2.TurnFinished]:
        """Wait until each turn is over, and return how it ended."""

        async def result(turn: turn_pb2.Turn) -> turn_pb2.TurnFinished:
            async for event in self.client.follow_turn(turn, patience=60):
                if event.HasField("turn_finished"):
                    return event.turn_finished
            request = session_service_pb2.GetTurnRequest(name=turn.name)
            return (await self.client.sessions.GetTurn(request, timeout=60)).turn.result

        async with asyncio.timeout(120):
            ended = await asyncio.gather(*(result(turn) for turn in self.turns.values()))
        return dict(zip(self.turns, ended, strict=True))

    async def goes_on(self, point: str) -> None:
        """Show that the session takes and answers the next prompt."""
        request = router_service_pb2.StartTurnRequest(
            prompt="POINT next.", session=self.turns[point].session, route=turn_pb2.TURN_ROUTE_AGENT
        )
        self.turns = {"next": await self.client.start_turn(request, patience=60)}
        assert (await self.results())["next"].outcome == turn_pb2.TURN_STATE_SUCCEEDED


def is_over(pid: int) -> bool:
    """Return whether a process has ended, also when nobody has asked for its exit code."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def point_of(body: Mapping[str, Any]) -> str:
    """Return the point that a call to the model is made at: the last that its conversation names."""
    return str(re.findall(r"POINT ([a-z-]+)", json.dumps(body["messages"]))[-1])


def script(release: asyncio.Event) -> Any:
    """Return what the model answers."""
    tools = {
        "tool": "touch started; until [ -e go ]; do sleep 0.1; done",
        "after": "echo done",
        "permission": "touch asked",
    }

    def reply(body: Mapping[str, Any]) -> Reply:
        point = point_of(body)
        answered = "tool_result" in json.dumps(body["messages"][-1])
        if point in tools and not answered:
            return Reply.tool("Bash", {"command": tools[point], "description": "Run"})
        text = "An answer that is long enough for two pieces."
        if point.endswith("middle"):
            return Reply.text(text, middle=release)
        return Reply.text(text, before=release if point in ("asked", "after", "direct") else None)

    return reply


@asynccontextmanager
async def installation() -> AsyncIterator[Round]:
    async with scripted_anthropic([]) as model:
        with data_directory() as directory:
            models = directory / "models.yaml"
            models.write_text(MODELS.format(url=model.url))
            environ = {
                "POINTSMAN_LLM_CONFIG": str(models),
                "POINTSMAN_MAX_INSTANCES": str(len(AGENT_POINTS)),
                "POINTSMAN_POOL_SIZE": "0",
                "MODEL": MODEL,
            }
            held = Round(start(directory, environ), model, environ, AsyncClient("localhost:1"))
            try:
                await asyncio.to_thread(held.suite.wait_for_line, "Ready on ")
                key = (await asyncio.to_thread(held.suite.wait_for_line, "API key")).split()[2]
                async with AsyncClient(held.suite.url, key) as held.client:
                    yield held
            finally:
                await asyncio.to_thread(held.suite.stop, signal.SIGTERM)


async def one_round(held: Round, kind: str) -> list[str]:
    """Return the points whose turns succeeded."""
    await held.hold_all()
    await held.end(kind)
    await held.restart()
    results = await held.results()
    if kind in (GO_ON, AT_ONCE):
        # What could end in time did so, and was not asked for again.
        asked = held.calls()
        assert {point: asked[point] for point in CALLS} == CALLS
    good = [point for point, ended in results.items() if ended.outcome == turn_pb2.TURN_STATE_SUCCEEDED]
    for point in set(results) - set(good):
        assert results[point].outcome == turn_pb2.TURN_STATE_INTERRUPTED, (kind, point, results[point])
        assert results[point].error.reason == errors_pb2.ERROR_REASON_TURN_INTERRUPTED
    await held.goes_on("tool")
    return good


async def test_at_no_point_of_a_turn_does_sigterm_succeed_less_often_than_kill() -> None:
    succeeded = {kind: Counter[str]() for kind in KINDS}
    async with installation() as held:
        for _ in range(ROUNDS):
            for kind in KINDS:
                succeeded[kind].update(await one_round(held, kind))
    for point in POINTS:
        print(f"{point:14}", *(f"{kind}: {succeeded[kind][point]}/{ROUNDS}" for kind in KINDS), sep="  ")
    for kind in KINDS[1:]:
        for point in POINTS:
            assert succeeded[kind][point] >= succeeded[KILLED][point], (kind, point)
    for point in CALLS:
        assert succeeded[GO_ON][point] == succeeded[AT_ONCE][point] == ROUNDS, point
    for point in ("asked", "middle", "waiting", "queued", "direct", "direct-middle"):
        assert succeeded[HANG][point] == ROUNDS, point
