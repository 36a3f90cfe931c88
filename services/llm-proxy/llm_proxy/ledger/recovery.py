"""Calls whose process died are closed: at the start, and now and then for other replicas."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from servicekit.errors import Failure

from llm_proxy.ledger.ledger import Ledger

_log = structlog.get_logger("llm_proxy.ledger")

# A database that was away is asked again soon.
_EVERY_SECONDS: Final = 5.0
# Overdue calls hold back budget, nothing else; minutes do not matter.
_OVERDUE_EVERY: Final = 60


@asynccontextmanager
async def recovering(ledger: Ledger) -> AsyncIterator[None]:
    """Close this instance's own calls from before; while inside, settle owed ones and close overdue ones."""
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
    for round_ in itertools.count(1):
        await asyncio.sleep(_EVERY_SECONDS)
        try:
            await ledger.settle_owed()
            if round_ % _OVERDUE_EVERY == 0:
                await ledger.recover(everything=False)
        except Failure as failure:
            _log.warning("calls not closed", reason=failure.reason_name)
