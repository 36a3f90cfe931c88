"""Boots take turns: many at once would all be slow, and the first would be ready when the last is."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

# A boot takes a quarter of a second of one core; one that is not over by then waits for something else.
_LONG_SECONDS: Final = 5.0


class _Once:
    """Calls only the first time."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class Boots:
    """Lets `at_once` boots go on beside each other, first come, first served; spare ones when nobody waits.

    Who waits holds a place already, so that there are never more of them than sandboxes may be alive. Each
    boot lets the next one in after five seconds at the latest, whatever becomes of it.
    """

    def __init__(self, at_once: int | None = None) -> None:
        """`at_once`: the processors that we may use, unless it is said."""
        self._free = at_once or len(os.sched_getaffinity(0))
        self._waiting: list[tuple[bool, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @asynccontextmanager
    async def slot(self, *, spare: bool) -> AsyncIterator[None]:
        """Hold a slot inside. `spare`: nobody waits for what is booted."""
        await self._enter(spare)
        leave = _Once(self._leave)
        late = asyncio.get_running_loop().call_later(_LONG_SECONDS, leave)
        try:
            yield
        finally:
            late.cancel()
            leave()

    async def _enter(self, spare: bool) -> None:
        if self._free > 0:
            self._free -= 1
            return
        waiting = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (spare, next(self._numbers), waiting))
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        """Hand the slot to who is next."""
        while self._waiting:
            _, _, waiting = heapq.heappop(self._waiting)
            if not waiting.done():
                waiting.set_result(None)
                return
        self._free += 1
