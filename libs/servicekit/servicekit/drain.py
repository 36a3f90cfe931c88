"""The end of a service, announced: long streams end themselves when it starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import Any, TypeVar

from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure

Item = TypeVar("Item")


class Drain:
    """Set once, when the service begins to stop; never unset."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        # Who waits for the next item of a raced stream, and whether we have cancelled that.
        self._waiting: dict[asyncio.Task[Any], bool] = {}

    @property
    def draining(self) -> bool:
        """Whether the service is stopping: take no new work."""
        return self.started.is_set()

    def start(self) -> None:
        """Begin. Calling it again changes nothing."""
        if not self.draining:
            self.started.set()
            if self._waiting:
                # Not at once: who has an item ready gets it first.
                asyncio.get_running_loop().call_soon(self._interrupt)

    def check(self) -> None:
        """Raise Failure SERVICE_DRAINING when the service is stopping."""
        if self.draining:
            raise self.failure()

    @staticmethod
    def failure() -> Failure:
        """Return what a long stream ends itself with."""
        return Failure(
            errors_pb2.ERROR_REASON_SERVICE_DRAINING,
            "The service is stopping. Call again; after a sequence number, where the method takes one.",
            retry_after=timedelta(seconds=1),
        )

    async def race(self, stream: AsyncIterator[Item]) -> AsyncGenerator[Item, None]:
        """Yield what the stream yields until it ends, or raise SERVICE_DRAINING when the drain starts first.

        An item that is ready at that moment is still yielded. The stream is closed in every case.
        """
        try:
            while True:
                try:
                    item = await self._unless_started(stream)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if hasattr(stream, "aclose"):
                await stream.aclose()

    async def _unless_started(self, stream: AsyncIterator[Item]) -> Item:
        """Return the next item; raise SERVICE_DRAINING when the drain starts while it is waited for.

        The wait is in the caller's own task, which is cancelled then, as a timeout does it: a task for each
        item would cost more than the item.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - awaited, so in a task
        self._waiting[task] = False
        if self.draining:
            asyncio.get_running_loop().call_soon(self._interrupt)
        interrupted = False
        try:
            return await anext(stream)
        except asyncio.CancelledError:
            interrupted = self._waiting.pop(task)
            if interrupted and task.uncancel() == 0:
                raise self.failure() from None
            raise
        finally:
            if self._waiting.pop(task, False) and not interrupted:
                # The item was there first.
                task.uncancel()

    def _interrupt(self) -> None:
        for task, interrupted in self._waiting.items():
            if not interrupted:
                self._waiting[task] = True
                task.cancel()
