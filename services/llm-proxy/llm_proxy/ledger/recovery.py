"""Calls whose process died are closed: at the start, and now and then for other replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from servicekit.errors import Failure

from llm_proxy.ledger.ledger import Ledger

_log = structlog.get_logger("llm_proxy.ledger")

# Overdue calls hold back budget, nothing else; minutes do not matter.
_EVERY_SECONDS: Final = 300.0


@asynccontextmanager
async def recovering(ledger: Ledger) -> AsyncIterator[None]:
    """Close this instance's own calls from before, then overdue ones from time to time while inside."""
    lost = await ledger.recover(everything=True)
    if lost:
        _log.warning("calls of a process that died were charged as reserved", calls=lost)
    task = asyncio.create_task(_sweep(ledger))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _sweep(ledger: Ledger) -> None:
    while True:
        await asyncio.sleep(_EVERY_SECONDS)
        try:
            await ledger.recover(everything=False)
        except Failure as failure:
            _log.warning("overdue calls not closed", reason=failure.reason_name)
