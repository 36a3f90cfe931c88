"""What replicas tell one another: PostgreSQL's LISTEN/NOTIFY; on SQLite there is one process and no bus.

A message is a hint that something is in the database. One that is lost delays, and breaks nothing: every
listener also looks by itself from time to time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final

import asyncpg
import sqlalchemy as sa
import structlog

from session.storage.database import Database
from session.storage.transaction import Transaction

_log = structlog.get_logger("session.bus")

_CHANNEL: Final = "pointsman_session"
# PostgreSQL takes 7999 bytes; 150 UUIDs are 5550.
_IDS_AT_ONCE: Final = 150
_CONNECT_SECONDS: Final = 3.0
_PING_SECONDS: Final = 5.0

Handler = Callable[[Sequence[str]], None]


class Topic(Enum):
    """What a message is about."""

    EVENTS = "events"
    """These sessions have new events."""
    QUEUE = "queue"
    """Turns wait, or a place became free."""
    CANCEL = "cancel"
    """Somebody wants these turns cancelled."""
    DECIDED = "decided"
    """Permission requests of these turns were decided."""
    DELETED = "deleted"
    """These sessions are being deleted."""


class Bus:
    """Tells other replicas, and calls handlers with what they tell. `replica` is this one's number."""

    def __init__(self, database: Database, replica: int) -> None:
        self._database = database
        self.replica = replica
        self._handlers: dict[Topic, list[Handler]] = defaultdict(list)
        self._reconnected: list[Callable[[], None]] = []

    def on(self, topic: Topic, handler: Handler) -> None:
        """Call `handler` with the ids that another replica tells."""
        self._handlers[topic].append(handler)

    def on_reconnect(self, handler: Callable[[], None]) -> None:
        """Call `handler` whenever messages may have been missed."""
        self._reconnected.append(handler)

    async def tell(self, tx: Transaction, topic: Topic, *ids: str) -> None:
        """Tell the other replicas when, and only if, the transaction commits."""
        if not self._database.postgres:
            return
        for start in range(0, max(len(ids), 1), _IDS_AT_ONCE):
            payload = " ".join((str(self.replica), topic.value, *ids[start : start + _IDS_AT_ONCE]))
            await tx.execute(sa.select(sa.func.pg_notify(_CHANNEL, payload)))

    def here(self, topic: Topic, *ids: str) -> None:
        """Tell this replica's own handlers, after the commit."""
        for handler in self._handlers[topic]:
            handler(ids)

    async def listen(self) -> None:
        """Hear the others until cancelled; nothing to do on SQLite."""
        while self._database.postgres:
            try:
                await self._hear()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                _log.warning("bus_disconnected", error=type(error).__name__)
                await asyncio.sleep(0.5)

    async def _hear(self) -> None:
        url = self._database.url.set(drivername="postgresql")
        connection = await asyncpg.connect(
            url.render_as_string(hide_password=False), timeout=_CONNECT_SECONDS
        )
        try:
            # Held as long as this connection lives: the others see by it that this replica does.
            await connection.execute("SELECT pg_advisory_lock_shared($1)", self.replica)
            await connection.add_listener(_CHANNEL, self._heard)
            for reconnected in self._reconnected:
                reconnected()
            while True:
                await asyncio.sleep(_PING_SECONDS)
                await connection.execute("SELECT 1", timeout=_CONNECT_SECONDS)
        finally:
            connection.terminate()

    def _heard(self, _connection: Any, _process: int, _channel: str, payload: str) -> None:
        sender, topic, *ids = payload.split(" ")
        if sender != str(self.replica):
            self.here(Topic(topic), *ids)


async def dead(tx: Transaction, replicas: Sequence[int]) -> list[int]:
    """Return which of these replicas are gone: the lock that each holds while it lives is free."""
    gone = []
    for replica in replicas:
        query = sa.select(sa.func.pg_try_advisory_xact_lock(replica))
        if (await tx.execute(query)).scalar_one():
            gone.append(replica)
    return gone
