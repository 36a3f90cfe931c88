"""What an operator can plot of turns and watchers."""

from __future__ import annotations

import asyncio

from prometheus_client import REGISTRY
from servicekit.testing import wait_until
from support.session_house import SessionHouse


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_turns_are_counted_by_outcome_and_timed(house: SessionHouse) -> None:
    succeeded = {"route": "agent", "outcome": "succeeded", "reason": ""}
    cancelled = {"route": "agent", "outcome": "cancelled", "reason": "TURN_CANCELLED"}
    names = ("pointsman_turn_seconds_count", "pointsman_turn_queue_seconds_count")
    before = [value("pointsman_turns_total", **labels) for labels in (succeeded, cancelled)]
    timed = [value(name, route="agent") for name in names]
    others = value("pointsman_turns_running", route="agent")
    client = house.client()
    await client.finish(await client.enqueue("work"))
    running = await client.enqueue("wait")
    await wait_until(lambda: value("pointsman_turns_running", route="agent") == others + 1)
    await client.cancel(running.name)
    await client.finish(running)
    after = [value("pointsman_turns_total", **labels) for labels in (succeeded, cancelled)]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1]
    assert [value(name, route="agent") - old for name, old in zip(names, timed, strict=True)] == [2, 2]
    await wait_until(lambda: value("pointsman_turns_running", route="agent") == others)


async def test_open_streams_are_counted(house: SessionHouse) -> None:
    client = house.client()
    turn = await client.enqueue("work")
    await client.finish(turn)
    # The stream that saw the turn's end may still be on its way out.
    await wait_until(lambda: value("pointsman_watchers") == 0)

    async def watch() -> None:
        async for _ in client.watch(turn.session):
            pass

    watching = asyncio.create_task(watch())
    await wait_until(lambda: value("pointsman_watchers") == 1)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await wait_until(lambda: value("pointsman_watchers") == 0)
