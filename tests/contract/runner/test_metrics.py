"""What an operator can plot of sandboxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import REGISTRY
from servicekit.testing import wait_until
from support.runner_house import new_id
from support.scripted_anthropic import Reply


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_sandboxes_are_counted_by_state_and_claims_by_where_they_came_from(
    open_runner: Callable[..., Any],
) -> None:
    name = "pointsman_sandbox_claim_seconds_count"
    booted, warm = value(name, source="boot"), value(name, source="warm")
    async with open_runner([Reply.text("One."), Reply.text("Two.")]) as house:
        session = new_id()
        await house.run(session, "First")
        await house.run(session, "Second")
        assert value(name, source="boot") == booted + 1
        assert value(name, source="warm") == warm + 1
        await wait_until(lambda: value("pointsman_sandboxes", state="idle") == 1)
    assert value("pointsman_sandboxes", state="idle") == 0
