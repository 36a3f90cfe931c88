"""The end of a service, announced: long streams end themselves when it starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import TypeVar

from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure

Item = TypeVar("Item")


class Drain:
    """Set once, when the service begins to stop; never unset."""

    def __init__(self) -> None:
        self.started = asyncio.Event()

    @property
    def draining(self) -> bool:
        """Whether the service is stopping: take no new work."""
        return self.started.is_set()

    def start(self) -> None:
        """Begin. Calling it again changes nothing."""
        self.started.set()

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
        drained = asyncio.ensure_future(self.started.wait())
        upcoming: asyncio.Future[Item] | None = None
        try:
            while True:
                upcoming = asyncio.ensure_future(anext(stream))
                await asyncio.wait({upcoming, drained}, return_when=asyncio.FIRST_COMPLETED)
                if not upcoming.done():
                    raise self.failure()
                try:
                    item = upcoming.result()
                except StopAsyncIteration:
                    return
                yield item
        finally:
            pending = [task for task in (upcoming, drained) if task is not None and not task.done()]
            for task in pending:
                task.cancel()
            # The stream cannot be closed while a step of it still runs.
            await asyncio.gather(*pending, return_exceptions=True)
            if hasattr(stream, "aclose"):
                await stream.aclose()
