"""Sub-agents and the agent's small calls use the model of the turn, also after the session changed it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pointsman.session.v1 import turn_pb2
from support.runner_house import RunnerHouse, new_id
from support.scripted_steps import do, scripted_steps, sub_agent

OpenRunner = Callable[..., Any]
ONE, TWO, THREE = "test/one", "test/two", "test/three"


async def asked_of(
    house: RunnerHouse, session: str, model: str, prompt: str, options: turn_pb2.TurnOptions
) -> list[str]:
    """Run a turn; return the models that were asked in it."""
    since = len(house.model.requests)
    result = await house.run(session, prompt, model=model, options=options)
    assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, result.finished
    return [asked.body["model"] for asked in house.model.requests[since:]]


@pytest.mark.parametrize("kind", ["claude", "Explore", "general-purpose", "Plan"])
async def test_sub_agents_use_the_model_that_the_turn_has(open_runner: OpenRunner, kind: str) -> None:
    options = turn_pb2.TurnOptions()
    async with open_runner(scripted_steps) as house:
        session = new_id()
        for model in (ONE, TWO, ONE):
            for more in ({}, {"model": "haiku"}, {"model": "sonnet"}, {"model": "opus"}):
                nested = sub_agent("said", kind=kind, **more)
                prompt = do([nested, sub_agent([nested], "said", **more)], "end")
                asked = await asked_of(house, session, model, prompt, options)
                assert set(asked) == {model}, (kind, more)
                assert len(asked) >= 4


async def test_sub_agents_that_have_a_model_of_their_own_are_not_offered(open_runner: OpenRunner) -> None:
    async with open_runner(scripted_steps) as house:
        for kind in ("claude-code-guide", "statusline-setup"):
            result = await house.run(new_id(), do([sub_agent("said", kind=kind)], "end"), model=ONE)
            assert result.of("tool_result")[0].is_error
        assert "statusline-setup" not in str(house.model.prompts[0])
        assert {asked.body["model"] for asked in house.model.requests} == {ONE}


async def test_a_definition_that_names_a_model_has_it_whatever_the_agent_wants(
    open_runner: OpenRunner,
) -> None:
    options = turn_pb2.TurnOptions()
    for name, model in (("checker", THREE), ("writer", "")):
        options.agents[name].description = "Helps."
        options.agents[name].prompt = "You help."
        options.agents[name].model = model
    async with open_runner(scripted_steps) as house:
        session = new_id()
        for model in (ONE, TWO):
            for wanted in ({}, {"model": "haiku"}):
                prompt = do([sub_agent("said", kind="checker", **wanted)], "end")
                asked = await asked_of(house, session, model, prompt, options)
                assert [name for name in asked if name != model] == [THREE]
                prompt = do([sub_agent("said", kind="writer", **wanted)], "end")
                assert set(await asked_of(house, session, model, prompt, options)) == {model}
