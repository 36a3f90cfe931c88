"""Approvals: asked, decided, denied in time; and questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.testing import wait_until
from support.runner_house import RunnerHouse, TurnResult, new_id
from support.scripted_anthropic import Reply
from support.scripted_steps import bash, call, do, scripted_steps, sub_agent

OpenRunner = Callable[..., Any]
ASK = turn_pb2.TurnOptions(permission_mode=turn_pb2.PERMISSION_MODE_DEFAULT)
TOUCH = Reply.tool("Bash", {"command": "touch touched", "description": "Touch"})


async def decided_in(
    house: RunnerHouse,
    session: str,
    decided: event_pb2.PermissionDecided,
    options: turn_pb2.TurnOptions = ASK,
) -> TurnResult:
    result = TurnResult()
    request = house.request(session, "Do it", options=options)

    async def follow() -> None:
        async for item in house.follow(request):
            result.items.append(item)

    following = asyncio.create_task(follow())
    await wait_until(lambda: "permission_requested" in result.kinds, timeout=60)
    (asked,) = result.of("permission_requested")
    decided.permission_id = asked.permission_id
    call = pb.DecidePermissionRequest(turn=request.turn, decided=decided)
    for _ in range(2):
        answer = await house.stub().DecidePermission(call, metadata=house.metadata(), timeout=60)
        assert answer.found
    await following
    return result


async def test_a_tool_runs_when_it_is_allowed(open_runner: OpenRunner) -> None:
    async with open_runner([TOUCH, Reply.text("Done.")]) as house:
        session = new_id()
        allow = event_pb2.PermissionDecided(decision=event_pb2.PERMISSION_DECISION_ALLOW)
        result = await decided_in(house, session, allow)
        (asked,) = result.of("permission_requested")
        assert asked.tool == "Bash"
        assert asked.input["command"] == "touch touched"
        assert asked.tool_use_id == result.of("tool_use")[0].id
        assert [info.path for info in await house.list(session)] == ["touched"]


async def test_a_tool_does_not_run_when_it_is_denied_and_the_agent_hears_why(open_runner: OpenRunner) -> None:
    async with open_runner([TOUCH, Reply.text("Then not.")]) as house:
        session = new_id()
        deny = event_pb2.PermissionDecided(
            decision=event_pb2.PERMISSION_DECISION_DENY, message="Not on a Friday."
        )
        result = await decided_in(house, session, deny)
        (answer,) = result.of("tool_result")
        assert answer.is_error
        assert "Not on a Friday." in answer.content
        assert await house.list(session) == []


async def test_the_tool_runs_with_the_input_that_was_decided(open_runner: OpenRunner) -> None:
    async with open_runner([TOUCH, Reply.text("Done.")]) as house:
        session = new_id()
        allow = event_pb2.PermissionDecided(decision=event_pb2.PERMISSION_DECISION_ALLOW)
        allow.updated_input.update({"command": "touch other", "description": "Touch"})
        await decided_in(house, session, allow)
        assert [info.path for info in await house.list(session)] == ["other"]


async def test_a_question_is_asked_even_where_all_is_allowed(open_runner: OpenRunner) -> None:
    question: Any = {
        "question": "Which colour?",
        "header": "Colour",
        "multiSelect": False,
        "options": [
            {"label": "Red", "description": "like fire"},
            {"label": "Blue", "description": "like water"},
        ],
    }
    ask = Reply.tool("AskUserQuestion", {"questions": [question]})
    async with open_runner([ask, Reply.text("Red it is.")]) as house:
        answer = event_pb2.PermissionDecided(decision=event_pb2.PERMISSION_DECISION_ALLOW)
        answer.updated_input.update({"questions": [question], "answers": {"Which colour?": "Red"}})
        result = await decided_in(house, new_id(), answer, turn_pb2.TurnOptions())
        (asked,) = result.of("permission_requested")
        assert asked.tool == "AskUserQuestion"
        assert "Red" in result.of("tool_result")[0].content


async def test_time_that_people_take_is_not_the_turns(open_runner: OpenRunner) -> None:
    # What the agent itself takes is counted: on a machine that stands still, the shorter ones are over by it.
    for seconds in (2, 8, 30):
        outcome = await outcome_of_a_turn_whose_people_take_longer_than(seconds, open_runner)
        if outcome == turn_pb2.TURN_STATE_SUCCEEDED:
            return
    pytest.fail("a turn was over while it waited for somebody")


async def outcome_of_a_turn_whose_people_take_longer_than(
    seconds: int, open_runner: OpenRunner
) -> turn_pb2.TurnState.ValueType:
    options = turn_pb2.TurnOptions()
    options.CopyFrom(ASK)
    options.timeout.FromSeconds(seconds)
    options.permission_timeout.FromSeconds(3600)
    async with open_runner([TOUCH, Reply.text("Done.")]) as house:
        result = TurnResult()
        request = house.request(new_id(), "Do it", options=options)

        async def follow() -> None:
            async for item in house.follow(request):
                result.items.append(item)

        following = asyncio.create_task(follow())
        await wait_until(lambda: "permission_requested" in result.kinds or following.done())
        done, _ = await asyncio.wait({following}, timeout=seconds + 0.5)
        if done:
            return result.finished.outcome
        decided = event_pb2.PermissionDecided(
            permission_id=result.of("permission_requested")[0].permission_id,
            decision=event_pb2.PERMISSION_DECISION_ALLOW,
        )
        call = pb.DecidePermissionRequest(turn=request.turn, decided=decided)
        await house.stub().DecidePermission(call, metadata=house.metadata(), timeout=60)
        await following
        return result.finished.outcome


@pytest.mark.parametrize("nested", [False, True])
async def test_events_about_a_sub_agents_tools_say_whose_they_are(
    open_runner: OpenRunner, monkeypatch: pytest.MonkeyPatch, nested: bool
) -> None:
    monkeypatch.setattr("runner.agent.approvals._GRACE_SECONDS", 0.0)
    options = turn_pb2.TurnOptions(allowed_tools=["Write"])
    options.permission_timeout.FromMilliseconds(100)

    def helper(name: str) -> Any:
        write = call("Write", file_path=f"/workspace/{name}", content=name)
        work = sub_agent([bash(f"touch {name}")], [write], "said")
        return sub_agent([work], "said") if nested else work

    mine = call("Write", file_path="/workspace/three", content="3")
    prompt = do([helper("one"), helper("two")], [bash("touch three")], [mine], "end")
    async with open_runner(scripted_steps) as house:
        result = await house.run(new_id(), prompt, options=options)
        told = [event for event in result.events if event.WhichOneof("kind") == "tool_use"]
        # The innermost sub-agents; of those in a sub-agent, the CLI does not tell the calls themselves.
        helpers = [e for e in told if e.tool_use.tool == "Agent" and bool(e.parent_tool_use_id) is nested]
        whose = {
            name: next((e.tool_use.id for e in helpers if name in e.tool_use.input["prompt"]), "")
            for name in ("one", "two", "three")
        }
        assert len(set(whose.values())) == 3
        asked, decided = [], []
        for event in result.events:
            kind, parent = event.WhichOneof("kind"), event.parent_tool_use_id
            if kind == "permission_requested":
                asked.append(parent)
                assert parent == whose[event.permission_requested.input["command"].split()[1]]
            elif kind == "permission_decided":
                decided.append(parent)
            elif kind == "file_change":
                assert parent == whose[event.file_change.path]
        assert sorted(asked) == sorted(decided) == sorted(whose.values())
        assert {change.path for change in result.of("file_change")} == set(whose)
