"""Blocking work beside the loop, whose end is always waited for."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from runner.keyed_locks import KeyedLocks

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def to_the_end(
    work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Run work in a thread.

    A thread cannot be stopped, so a call that is cancelled waits for its end, too: locks that are held around
    it are given up when nothing goes on behind them.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    return await _ended(running)


async def _ended(running: asyncio.Future[Result]) -> Result:
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


class SharedThreads:
    """Threads for one kind of long work, so that it never takes those that all other work needs.

    There are `size` of them, and one tenant has at most `share`. Who finds none free waits.
    """

    def __init__(self, name: str, size: int, share: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._tenants: KeyedLocks[str] = KeyedLocks(share)

    async def run(
        self,
        tenant: str,
        work: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Run work for a tenant, see `to_the_end`."""
        async with self._tenants.hold(tenant):
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._pool, functools.partial(work, *args, **kwargs))
            return await _ended(running)

    async def run_until(self, tenant: str, stop: threading.Event, work: Callable[[], Result]) -> Result:
        """Run work that looks at `stop` itself: a call that is cancelled sets it."""
        async with self._tenants.hold(tenant):
            running = asyncio.get_running_loop().run_in_executor(self._pool, work)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                stop.set()
                await asyncio.wait({running})
                raise

    def close(self) -> None:
        """Take no more work. What runs goes on."""
        self._pool.shutdown(wait=False, cancel_futures=True)
