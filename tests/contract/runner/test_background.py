"""What the runner does beside its calls: it waits for what is away, and none of it ends unnoticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pointsman.runner.v1 import runner_service_pb2 as pb
from runner.lifecycle.lifecycle import Lifecycle
from runner.lifecycle.pool import Pool
from servicekit.serving import Drain, serving
from servicekit.testing import free_port, wait_until
from support.runner_peers import TokenPeer

OpenRunner = Callable[..., Any]


async def test_the_pool_is_filled_when_an_llm_proxy_that_was_away_comes(
    open_runner: OpenRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.lifecycle.lifecycle._ASK_SECONDS", 0.1)
    asked: list[str] = []
    monkeypatch.setattr(
        "runner.lifecycle.lifecycle._log.info",
        lambda event, **fields: asked.append(f"{event} {fields['reason']}"),
    )
    address = f"127.0.0.1:{free_port()}"
    async with open_runner(pool_size=1, llm_proxy_address=address) as house:

        async def pooled() -> bool:
            answer = await house.stub().ListSandboxes(
                pb.ListSandboxesRequest(), metadata=house.metadata(), timeout=60
            )
            return len(answer.sandboxes) == 1

        await wait_until(lambda: len(asked) >= 2)
        assert not await pooled()
        assert set(asked) == {"pool_waits SERVICE_UNAVAILABLE"}
        async with serving(
            service="llm-proxy",
            address=address,
            servicers=[TokenPeer().servicer()],
            verifier=house.keys.verifier,
            drain=Drain(),
        ):
            await wait_until(pooled)


@pytest.mark.parametrize(("part", "task"), [(Lifecycle, "tend"), (Pool, "keep")])
async def test_a_runner_whose_background_work_fails_ends(
    open_runner: OpenRunner, monkeypatch: pytest.MonkeyPatch, part: type, task: str
) -> None:
    runs = asyncio.Event()

    async def fails(self: Any) -> None:
        await runs.wait()
        raise LookupError("broken")

    monkeypatch.setattr(part, task, fails)
    with pytest.raises(LookupError, match="broken"):
        async with open_runner(pool_size=1):
            runs.set()
            await asyncio.Event().wait()
