"""Forgetting: events of turns that ended long ago, and requests that nobody repeats any more."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import structlog
from servicekit.errors import Failure

from session import clock
from session.storage.database import Database
from session.storage.statements import purge, requests

_log = structlog.get_logger("session.retention")

_LOOK_SECONDS: Final = 600.0
# Sessions, and requests, in one transaction: short enough that nobody notices.
_SESSIONS: Final = 50
_REQUESTS: Final = 1000
_REQUESTS_KEPT: Final = timedelta(days=7)


class Retention:
    """Keeps events for `kept` after the end of their turn; None keeps them for ever."""

    def __init__(self, database: Database, kept: timedelta | None) -> None:
        self._database = database
        self._kept = kept

    async def sweep(self) -> None:
        """Forget what is old, now and then, until cancelled."""
        while True:
            try:
                await self.forget()
            except Failure as failure:
                _log.warning("retention_waits", reason=failure.reason_name)
            await asyncio.sleep(_LOOK_SECONDS)

    async def forget(self) -> None:
        """Forget everything that is old."""
        before = clock.now() - clock.micros(_REQUESTS_KEPT)
        while await self._database.run(lambda tx: requests.forget(tx, before, _REQUESTS)) == _REQUESTS:
            pass
        if self._kept is None:
            return
        old = clock.now() - clock.micros(self._kept)
        while True:
            found = await self._database.run(lambda tx: purge.outdated(tx, old, _SESSIONS))
            dropped = [await self._drop(session_id, through) for session_id, through in found]
            if not any(dropped):
                return

    async def _drop(self, session_id: str, through: int) -> int:
        return await self._database.run(lambda tx: purge.drop_events(tx, session_id, through))
