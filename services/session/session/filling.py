"""Sessions that begin with files: nobody sees them before they are whole, and each is made once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from session import clock
from session.database import Database
from session.peers import WORKSPACE_SECONDS, Party, Runner
from session.refusals import session_not_found
from session.rows import SessionRow
from session.store import sessions
from session.tables import Phase
from session.transaction import Transaction

# One that was begun and never finished is removed after this time.
_UNFINISHED: Final = timedelta(minutes=10)
# Nobody else fills it meanwhile: longer than the runner's three answers may take.
_HOLD: Final = timedelta(seconds=WORKSPACE_SECONDS + 15)
# So long a call waits for another one that fills the same session.
_WAIT_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.05


def to_be_filled() -> dict[str, object]:
    """Return the columns of a new session that nobody sees until `fill` has opened it."""
    return {"phase": Phase.FILLING, "expire_time": clock.now() + clock.micros(_UNFINISHED)}


async def being_made(tx: Transaction, session_id: str) -> SessionRow:
    """Return a session that a request made, filled or not; Failure SESSION_NOT_FOUND when it is gone."""
    session = await sessions.maybe(tx, session_id)
    if session is None or session.phase == Phase.DELETING:
        raise session_not_found(session_id)
    return session


class Filler:
    """Fills sessions with the files of their `from_snapshot_id`."""

    def __init__(self, database: Database, runner: Runner) -> None:
        self._database = database
        self._runner = runner

    async def fill(
        self,
        party: Party,
        session: SessionRow,
        *,
        prepare: Callable[[], Awaitable[None]] | None = None,
        finish: Callable[[Transaction, SessionRow], Awaitable[Mapping[str, Any]]] | None = None,
    ) -> None:
        """Fill a session and open it, or wait for the call with the same request that does.

        `prepare` comes after the files; `finish` runs in the transaction that opens the session, and returns
        columns to set. A failure leaves the session to the next try of the same request.
        """
        if not await self._database.run(lambda tx: _held(tx, session.id)):
            await self._opened(session.id)
            return
        try:
            if session.from_snapshot_id:
                await self._files(party, session)
            if prepare is not None:
                await prepare()
        except Failure:
            await self._database.run(lambda tx: sessions.update(tx, session.id, hold_until=0))
            raise

        async def open_(tx: Transaction) -> None:
            found = await sessions.locked(tx, session.id)
            if found is None or found.phase != Phase.FILLING:
                # The same request, at the same moment, was faster.
                return
            columns = {} if finish is None else await finish(tx, found)
            if found.from_snapshot_id:
                columns = {**columns, "snapshot_id": found.id}
            opened = {"phase": Phase.OPEN, "expire_time": 0, "hold_until": 0}
            await sessions.update(tx, found.id, **opened, **columns)

        await self._database.run(open_)

    async def _files(self, party: Party, session: SessionRow) -> None:
        """Make the workspace, and keep it as a first snapshot: turns that change nothing share it."""
        await self._runner.create_snapshot(party, session.name, session.id, session.from_snapshot_id)
        await self._runner.restore_snapshot(party, session.name, session.id)

    async def _opened(self, session_id: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS):
                while True:
                    session = await self._database.run(lambda tx: sessions.maybe(tx, session_id))
                    if session is None or session.phase != Phase.FILLING:
                        return
                    await asyncio.sleep(_LOOK_SECONDS)
        raise Failure(
            errors_pb2.ERROR_REASON_SESSION_BUSY,
            "The session is still being made. Send the same request again.",
        )


async def _held(tx: Transaction, session_id: str) -> bool:
    """Hold a session that is to be filled, so that nobody else fills it; tell whether it is ours to fill."""
    session = await sessions.locked(tx, session_id)
    if session is None or session.phase != Phase.FILLING or session.hold_until > clock.now():
        return False
    await sessions.update(tx, session_id, hold_until=clock.now() + clock.micros(_HOLD))
    return True
