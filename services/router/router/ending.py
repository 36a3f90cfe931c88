"""What becomes of a call that waits for a turn when the router is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from servicekit.drain import Drain

Answer = TypeVar("Answer")

# A little less than the grace that a stopping server gives its calls.
GRACE_SECONDS: Final = 8.0


async def unless_drained(work: Coroutine[Any, Any, Answer], drain: Drain) -> Answer:
    """Return the answer, which a stop gives eight seconds more; then raise SERVICE_DRAINING.

    For calls that cannot be taken up again where they were, as streams can.
    """
    answering = asyncio.ensure_future(work)
    drained = asyncio.ensure_future(drain.started.wait())
    try:
        await asyncio.wait({answering, drained}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            await asyncio.wait({answering}, timeout=GRACE_SECONDS)
        if not answering.done():
            raise drain.failure()
        return answering.result()
    finally:
        pending = [task for task in (answering, drained) if not task.done()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
