"""Work in a thread is over when its call is, also when the call was cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest
from runner.threads import to_the_end


async def test_a_lock_around_cancelled_work_is_held_until_the_work_is_done() -> None:
    lock, began, go_on = asyncio.Lock(), threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> None:
        began.set()
        go_on.wait(60)
        done.append("work")

    async def held() -> None:
        async with lock:
            await to_the_end(work)

    task = asyncio.create_task(held())
    await asyncio.to_thread(began.wait, 60)
    task.cancel()
    next_one = asyncio.create_task(lock.acquire())
    await asyncio.wait({next_one}, timeout=0.05)
    assert not next_one.done()
    go_on.set()
    await next_one
    assert done == ["work"]
    with pytest.raises(asyncio.CancelledError):
        await task
