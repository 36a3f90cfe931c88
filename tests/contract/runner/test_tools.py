"""The tools that the agent is offered, and that none of them works on after the turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from pointsman.session.v1 import turn_pb2
from runner.agent.tools import OFFERED
from support.runner_house import new_id
from support.scripted_anthropic import Reply
from support.scripted_steps import bash, call, do, scripted_steps, sub_agent

OpenRunner = Callable[..., Any]
# What this version of the CLI would offer, too. `tools.py` says why the agent does not get them.
WITHHELD: Final[dict[str, dict[str, Any]]] = {
    "CronCreate": {"cron": "* * * * *", "prompt": "later", "recurring": True},
    "CronDelete": {"id": "1"},
    "CronList": {},
    "EnterPlanMode": {},
    "ListAgents": {},
    "Monitor": {
        "command": "sleep 1; touch made",
        "description": "d",
        "timeout_ms": 60000,
        "persistent": False,
    },
    "ReportFindings": {"findings": []},
    "ScheduleWakeup": {"delaySeconds": 60, "reason": "later", "prompt": "later", "noop": False},
    "TaskStop": {"task_id": "1"},
    "Workflow": {"script": "export const meta = { name: 'w', description: 'd', phases: [] }"},
}
NOT_FOR_SUB_AGENTS: Final = {"AskUserQuestion", "ExitPlanMode"}


def offered(body: Any) -> set[str]:
    return {tool["name"] for tool in body["tools"]}


async def test_the_agent_is_offered_the_tools_of_the_list_and_no_others(open_runner: OpenRunner) -> None:
    async with open_runner(scripted_steps) as house:
        result = await house.run(new_id(), do([sub_agent("said")], "end"))
        assert result.finished.result == "end", result.finished
        agent, helper = house.model.prompts[:2]
        assert offered(agent) == set(OFFERED)
        assert offered(helper) == set(OFFERED) - NOT_FOR_SUB_AGENTS


async def test_every_tool_that_the_cli_has_is_offered_or_withheld_on_purpose(
    open_runner: OpenRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.agent.agent_options.OFFERED", ("default",))
    async with open_runner([Reply.text("Hi.")]) as house:
        await house.run(new_id(), "Hello")
        assert offered(house.model.prompts[0]) == {*OFFERED, *WITHHELD}


async def test_a_tool_that_is_withheld_says_so_and_does_nothing(open_runner: OpenRunner) -> None:
    steps = [[call(name, **given)] for name, given in WITHHELD.items()]
    options = turn_pb2.TurnOptions(max_turns=30)
    async with open_runner(scripted_steps) as house:
        session = new_id()
        for prompt in (do(*steps, "end"), do([sub_agent(*steps, "said")], "end")):
            result = await house.run(session, prompt, options=options)
            answers = [one for one in result.of("tool_result") if "No such tool" in one.content]
            assert len(answers) == len(WITHHELD), result.of("tool_result")
            assert all(one.is_error for one in answers)
        assert await house.list(session) == []


async def test_a_sub_agent_has_finished_when_the_turn_ends(open_runner: OpenRunner) -> None:
    work = bash("sleep 1; touch made")
    async with open_runner(scripted_steps) as house:
        for background in (False, True):
            session = new_id()
            await house.run(session, do([sub_agent([work], "said", run_in_background=background)], "end"))
            assert [info.path for info in await house.list(session)] == ["made"]
