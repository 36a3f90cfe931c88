"""Agents are booted ahead for what sessions are made from, each kind its own, and never too many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.testing import wait_until
from support.runner_house import RunnerHouse, TurnResult, new_id
from support.scripted_anthropic import Reply

OpenRunner = Callable[..., Any]
EGRESS = ["files.allowed.example"]


def waiting(house: RunnerHouse, count: int) -> Callable[[], Awaitable[bool]]:
    """Return whether so many agents wait in the pool."""

    async def waits() -> bool:
        answer = await house.stub().ListSandboxes(
            pb.ListSandboxesRequest(), metadata=house.metadata(), timeout=60
        )
        pooled = [sandbox.state for sandbox in answer.sandboxes if not sandbox.session]
        return pooled == [event_pb2.SANDBOX_STATE_PAUSED] * count

    return waits


async def first_turn(house: RunnerHouse, template: str) -> event_pb2.SandboxChanged:
    """Run the first turn of a new session and return how its sandbox became ready."""
    options = turn_pb2.TurnOptions(system_prompt=f"You are {template}." if template else "")
    settings = pb.SandboxSettings(template=template, egress_hosts=EGRESS if template else ())
    result: TurnResult = await house.run(new_id(), "Hello", options=options, sandbox=settings)
    assert result.finished.outcome == turn_pb2.TURN_STATE_SUCCEEDED, result.finished
    ready = result.of("sandbox_changed")[-1]
    assert isinstance(ready, event_pb2.SandboxChanged)
    return ready


async def test_each_template_has_an_agent_of_its_own_booted_ahead(open_runner: OpenRunner) -> None:
    async with open_runner(
        [Reply.text("Hi.")], pool_size=1, max_instances=12, egress_allow="*.allowed.example"
    ) as house:
        await wait_until(waiting(house, 1), timeout=60)
        cold = await first_turn(house, "templates/one")
        assert not cold.pooled
        await wait_until(waiting(house, 2), timeout=60)
        assert not (await first_turn(house, "templates/two")).pooled
        await wait_until(waiting(house, 3), timeout=60)
        # What one kind of session takes is there for none of the others to lose.
        took = []
        for template in ("templates/one", "", "templates/two"):
            ready = await first_turn(house, template)
            assert ready.pooled, template
            took.append(ready.duration.ToTimedelta())
            assert template in str(house.model.prompts[-1]["system"])
        assert min(took) < cold.duration.ToTimedelta()
        await wait_until(waiting(house, 3), timeout=60)


@pytest.mark.parametrize(
    "bound",
    [{"pool_templates": 1, "max_instances": 12}, {"max_instances": 4}],
    ids=["as configured", "half of the places"],
)
async def test_templates_that_were_not_used_for_longest_give_way(
    open_runner: OpenRunner, bound: dict[str, int]
) -> None:
    async with open_runner(
        [Reply.text("Hi.")], pool_size=1, egress_allow="*.allowed.example", **bound
    ) as house:
        await wait_until(waiting(house, 1), timeout=60)
        await first_turn(house, "templates/one")
        await wait_until(waiting(house, 2), timeout=60)
        await first_turn(house, "templates/two")
        await wait_until(waiting(house, 2), timeout=60)
        assert (await first_turn(house, "templates/two")).pooled
        assert not (await first_turn(house, "templates/one")).pooled
