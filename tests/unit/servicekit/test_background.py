"""Work that runs as long as the service does."""

from __future__ import annotations

import asyncio

import pytest
from servicekit.background import background


async def test_a_task_that_fails_takes_the_service_with_it() -> None:
    async def fails() -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        async with background(fails()):
            await asyncio.Event().wait()


async def test_a_task_ends_with_what_it_runs_in() -> None:
    ended = asyncio.Event()

    async def works() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with background(works()):
        await asyncio.sleep(0)
    assert ended.is_set()
