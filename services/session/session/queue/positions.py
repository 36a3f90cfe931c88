"""Telling turns that wait when their place in the queue changes."""

from __future__ import annotations

import structlog
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from session.events.append import Append
from session.events.log import Log
from session.storage.database import Database
from session.storage.statements import turns
from session.storage.tables import QUEUED

_log = structlog.get_logger("session.positions")


class Positions:
    """Logs `turn_queued` again for turns whose place is another than they were told."""

    def __init__(self, database: Database, log: Log) -> None:
        self._database = database
        self._log = log

    async def tell(self, tenant: str, account: str) -> None:
        """Look at an account's queue and tell. A turn that stops waiting meanwhile is told nothing."""
        try:
            waiting = await self._database.run(lambda tx: turns.waiting(tx, tenant, account))
        except Failure as failure:
            # Places are a courtesy; the next change tells them again.
            _log.info("positions_not_told", reason=failure.reason_name)
            return
        for place, turn in enumerate(waiting, 1):
            if turn.told_position != place:
                event = event_pb2.Event(turn_queued=event_pb2.TurnQueued(position=place))
                append = Append(turn.session_id, turn.id, turn.epoch, [event], state=QUEUED)
                append.turn["told_position"] = place
                await self._log.put(append)
