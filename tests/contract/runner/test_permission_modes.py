"""A permission mode means what it says in its turn, whoever calls the tool and whatever turns came before.

The whole table takes some minutes and runs under CHAOS_FULL=1.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.testing import wait_until
from support.runner_house import RunnerHouse, TurnResult, new_id
from support.scripted_steps import Call, bash, call, do, scripted_steps, sub_agent

OpenRunner = Callable[..., Any]
FULL: Final = os.environ.get("CHAOS_FULL") == "1"

DEFAULT = turn_pb2.PERMISSION_MODE_DEFAULT
ACCEPT = turn_pb2.PERMISSION_MODE_ACCEPT_EDITS
PLAN = turn_pb2.PERMISSION_MODE_PLAN
BYPASS = turn_pb2.PERMISSION_MODE_BYPASS_PERMISSIONS
NOTEBOOK: Final = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
SERVER: Final = """
import json, pathlib, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    method, result = message["method"], {}
    if method == "initialize":
        result = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "files", "version": "1"}}
    elif method == "tools/list":
        schema = {"type": "object", "properties": {"name": {"type": "string"}}}
        result = {"tools": [{"name": "make", "description": "Makes a file.", "inputSchema": schema}]}
    elif method == "tools/call":
        pathlib.Path("/workspace", message["params"]["arguments"]["name"]).write_text("made")
        result = {"content": [{"type": "text", "text": "made"}]}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
CHANGES: Final[dict[str, Callable[[str], Call]]] = {
    "Write": lambda name: call("Write", file_path=f"/workspace/{name}", content="made"),
    "Edit": lambda name: call("Edit", file_path="/workspace/text", old_string="one line", new_string=name),
    "NotebookEdit": lambda name: call(
        "NotebookEdit",
        notebook_path="/workspace/n.ipynb",
        new_source=name,
        cell_type="code",
        edit_mode="insert",
    ),
    "Bash touch": lambda name: bash(f"touch {name}"),
    "Bash mkdir": lambda name: bash(f"mkdir {name}"),
    "Bash pipe": lambda name: bash(f"echo made | tee {name}"),
    "mcp__files__make": lambda name: call("mcp__files__make", name=name),
}
READS: Final = (
    call("Read", file_path="/workspace/text"),
    call("Read", file_path="/workspace/n.ipynb"),
    bash("ls | head -n 3 && wc -l text"),
)


def options(mode: turn_pb2.PermissionMode.ValueType, *allowed: str) -> turn_pb2.TurnOptions:
    made = turn_pb2.TurnOptions(
        permission_mode=mode, allowed_tools=allowed, mcp_servers=["files"], max_turns=40
    )
    made.permission_timeout.FromMilliseconds(50)
    return made


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The runner's configuration; nobody decides anything for long."""
    monkeypatch.setattr("runner.agent.approvals._GRACE_SECONDS", 0.0)
    servers = {"mcpServers": {"files": {"command": "python3", "args": ["-c", SERVER]}}}
    (tmp_path / "mcp.json").write_text(json.dumps(servers))
    return {"mcp_config": tmp_path / "mcp.json"}


async def started_session(house: RunnerHouse) -> str:
    session = new_id()
    await house.write(session, "text", b"one line")
    await house.write(session, "n.ipynb", json.dumps(NOTEBOOK).encode())
    return session


async def contents(house: RunnerHouse, session: str) -> tuple[Any, ...]:
    names = sorted(info.path for info in await house.list(session))
    return names, await house.read(session, "text"), await house.read(session, "n.ipynb")


async def all_tools(
    house: RunnerHouse, session: str, asked: turn_pb2.TurnOptions, *, helper: bool
) -> tuple[set[str], set[str]]:
    """Have every tool called; return those that were asked for and those that changed something."""
    calls = {kind: make(f"made{number}") for number, (kind, make) in enumerate(CHANGES.items())}
    steps: list[Any] = [[made] for made in (*READS, *calls.values())]
    before = await contents(house, session)
    prompt = do([sub_agent(*steps, "said")], "end") if helper else do(*steps, "end")
    result = await house.run(session, prompt, options=asked)
    assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, result.finished
    after = await contents(house, session)
    changed = {
        "Edit": after[1] != before[1],
        "NotebookEdit": after[2] != before[2],
        **{kind: f"made{n}" in after[0] for n, kind in enumerate(CHANGES) if not kind.endswith("Edit")},
    }
    requests = result.of("permission_requested")
    requested = {kind for kind, made in calls.items() if any(_is(one, made) for one in requests)}
    assert len(requests) == len(requested), f"what only reads was asked for: {requests}"
    judges = [
        body for body in house.model.prompts if "security monitor" in json.dumps(body.get("system", ""))
    ]
    assert not judges, "the model was asked whether a tool may run"
    return requested, {kind for kind, done in changed.items() if done}


def _is(asked: event_pb2.PermissionRequested, made: Call) -> bool:
    """Whether a request is about this call."""
    given = {name: value for name, value in made["input"].items() if isinstance(value, str)}
    return asked.tool == made["name"] and all(asked.input[name] == given[name] for name in given)


Previous = Callable[[RunnerHouse, str], Any]


async def nothing(house: RunnerHouse, session: str) -> None:
    """The turn is the session's first."""


def turn_in(mode: turn_pb2.PermissionMode.ValueType, *steps: Any) -> Previous:
    async def run(house: RunnerHouse, session: str) -> None:
        await house.run(session, do(*steps, "end"), options=options(mode))

    return run


async def plan_approved(house: RunnerHouse, session: str) -> None:
    """A plan turn whose plan a person approves, which takes the CLI out of its plan mode."""
    patient = options(PLAN)
    patient.permission_timeout.FromSeconds(600)
    result, request = TurnResult(), house.request(session, do([call("ExitPlanMode")], "end"), options=patient)

    async def follow() -> None:
        async for item in house.follow(request):
            result.items.append(item)

    following = asyncio.create_task(follow())
    await wait_until(lambda: "permission_requested" in result.kinds or following.done())
    allow = event_pb2.PermissionDecided(
        permission_id=result.of("permission_requested")[0].permission_id,
        decision=event_pb2.PERMISSION_DECISION_ALLOW,
    )
    decide = pb.DecidePermissionRequest(turn=request.turn, decided=allow)
    await house.stub().DecidePermission(decide, metadata=house.metadata(), timeout=60)
    await following
    assert not result.of("tool_result")[0].is_error, result.of("tool_result")


PREVIOUS: Final[dict[str, Previous]] = {
    "first": nothing,
    "plan-approved": plan_approved,
    "agent-planned": turn_in(ACCEPT, [call("EnterPlanMode")], [sub_agent([call("EnterPlanMode")], "said")]),
    "bypass": turn_in(BYPASS, [bash("touch before")]),
    "default": turn_in(DEFAULT),
    "accept": turn_in(ACCEPT),
    "plan": turn_in(PLAN, [call("ExitPlanMode")]),
}
SHORT: Final = ("first", "plan-approved", "agent-planned", "bypass")
ALL: Final = set(CHANGES)
TABLE: Final[list[tuple[str, turn_pb2.TurnOptions, set[str]]]] = [
    ("plan", options(PLAN), ALL),
    ("default", options(DEFAULT), ALL),
    ("accept", options(ACCEPT), set()),
    ("bypass", options(BYPASS), set()),
    ("plan with a list", options(PLAN, "Write", "Edit", "Bash", "mcp__files"), ALL),
    ("accept with a list", options(ACCEPT, "Write", "mcp__files"), ALL - {"Write", "mcp__files__make"}),
    ("default with a list", options(DEFAULT, "Bash(touch:*)"), ALL - {"Bash touch"}),
    ("bypass with a list", options(BYPASS, "Read"), set()),
]


@pytest.mark.parametrize("previous", PREVIOUS if FULL else SHORT)
async def test_every_tool_is_asked_for_where_the_turns_mode_says_so(
    open_runner: OpenRunner, config: dict[str, Any], previous: str
) -> None:
    rows: Sequence[Any] = TABLE if FULL else TABLE[:6] if previous == "first" else TABLE[:2]
    async with open_runner(scripted_steps, **config) as house:
        for (name, asked, expected), helper in itertools.product(rows, (False, True)):
            session = await started_session(house)
            await PREVIOUS[previous](house, session)
            requested, worked = await all_tools(house, session, asked, helper=helper)
            who = "a sub-agent" if helper else "the agent"
            assert requested == expected, f"{name}, called by {who}, after {previous}"
            assert worked == ALL - expected, f"{name}, called by {who}, after {previous}"


async def test_a_plan_that_was_approved_does_not_end_the_turns_mode(
    open_runner: OpenRunner, config: dict[str, Any]
) -> None:
    async with open_runner(scripted_steps, **config) as house:
        session = await started_session(house)
        write = call("Write", file_path="/workspace/after", content="made")
        patient = options(PLAN)
        patient.permission_timeout.FromSeconds(600)
        request = house.request(session, do([call("ExitPlanMode")], [write], "end"), options=patient)
        result = TurnResult()
        async for item in house.follow(request):
            result.items.append(item)
            if item.event.WhichOneof("kind") == "permission_requested":
                asked = item.event.permission_requested
                decision = event_pb2.PERMISSION_DECISION_ALLOW
                allow = event_pb2.PermissionDecided(permission_id=asked.permission_id, decision=decision)
                decide = pb.DecidePermissionRequest(turn=request.turn, decided=allow)
                await house.stub().DecidePermission(decide, metadata=house.metadata(), timeout=60)
        assert [one.tool for one in result.of("permission_requested")] == ["ExitPlanMode", "Write"]
        assert "after" in {info.path for info in await house.list(session)}


async def test_a_worktree_for_a_sub_agent_is_asked_for(
    open_runner: OpenRunner, config: dict[str, Any]
) -> None:
    repository = bash(
        "git init -q && git -c user.name=a -c user.email=a@example.com commit -qm x --allow-empty"
    )
    async with open_runner(scripted_steps, **config) as house:
        session = await started_session(house)
        await house.run(session, do([repository], "end"), options=options(BYPASS))
        for mode in (PLAN, DEFAULT, BYPASS):
            # Another process, which finds the repository at its start.
            asked = options(mode)
            asked.max_turns = 30
            helper = sub_agent("said", isolation="worktree")
            result = await house.run(session, do([helper], "end"), options=asked)
            expected = [] if mode == BYPASS else ["Agent"]
            assert [one.tool for one in result.of("permission_requested")] == expected
            found = {info.path for info in await house.list(session)}
            assert (".claude" in found) is (mode == BYPASS), found


@pytest.mark.parametrize("mode", [PLAN, DEFAULT, ACCEPT, BYPASS])
async def test_a_command_in_the_background_is_refused(
    open_runner: OpenRunner, config: dict[str, Any], mode: turn_pb2.PermissionMode.ValueType
) -> None:
    steps = [bash("touch made", run_in_background=True)], "end"
    async with open_runner(scripted_steps, **config) as house:
        for prompt in (do(*steps), do([sub_agent(*steps)], "end")):
            session = await started_session(house)
            result = await house.run(session, prompt, options=options(mode))
            assert any(one.is_error for one in result.of("tool_result")), result.of("tool_result")
            assert "made" not in {info.path for info in await house.list(session)}


async def test_a_link_among_the_plans_does_not_let_a_plan_turn_write(
    open_runner: OpenRunner, config: dict[str, Any]
) -> None:
    plans = "/home/agent/.claude/plans"
    plant = bash(f"mkdir -p {plans}; ln -s /workspace/text {plans}/plan.md; ln -s /workspace {plans}/all")
    async with open_runner(scripted_steps, **config) as house:
        session = await started_session(house)
        planted = await house.run(session, do([plant], "end"), options=options(BYPASS))
        assert planted.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, planted.finished
        before = await contents(house, session)
        writes = [
            [call("Read", file_path=f"{plans}/plan.md")],
            [call("Write", file_path=f"{plans}/plan.md", content="changed")],
            [call("Edit", file_path=f"{plans}/plan.md", old_string="one line", new_string="changed")],
            [call("Write", file_path=f"{plans}/all/new.txt", content="made")],
        ]
        await house.run(session, do(*writes, "end"), options=options(PLAN))
        assert await contents(house, session) == before
