"""Tasks that run as long as the service does: when one fails, the service does not go on without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

_log = structlog.get_logger("servicekit.background")


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run an endless task while inside. When it fails, what is inside is cancelled, and its error raised.

    A service that runs half is worse than one that is started again.
    """
    parent = asyncio.current_task()
    task = asyncio.create_task(work)

    def ended(ended_task: asyncio.Task[None]) -> None:
        if not ended_task.cancelled() and ended_task.exception() is not None and parent is not None:
            _log.critical("background_failed", exc_info=ended_task.exception())
            parent.cancel()

    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.remove_done_callback(ended)
        failed = task.done() and not task.cancelled() and task.exception() is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if failed:
            task.result()
