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
from session.peers import WORKSPACE_SECONDS, Party, Runner
from session.refusals import session_not_found
from session.storage.database import Database
from session.storage.rows import SessionRow
from session.storage.statements import sessions
from session.storage.tables import Phase
from session.storage.transaction import Transaction

# One that was begun and never finished is removed after this time.
_UNFINISHED: Final = timedelta(minutes=10)
# Nobody else fills it meanwhile: longer than the runner's longest answers may take.
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

        The files are kept as a first snapshot, too, which turns that change nothing share. `prepare` comes
        after them; `finish` runs in the transaction that opens the session, and returns columns to set. A
        failure leaves the session to the next try of the same request.
        """
        hold = await self._database.run(lambda tx: _hold(tx, session.id))
        try:
            if hold and session.from_snapshot_id:
                await self._runner.create_snapshot(party, session.name, session.id, session.from_snapshot_id)
                # Held anew before the workspace is replaced: if another call has the session, it may have
                # opened it, and what is in it now is not ours to replace.
                hold = await self._database.run(lambda tx: _hold(tx, session.id, hold))
                if hold:
                    await self._runner.restore_snapshot(party, session.name, session.id)
            if hold and prepare is not None:
                await prepare()
        except (Failure, asyncio.CancelledError):
            # What goes on in the runner for a caller that went away is done before the next try's begins.
            await self._database.run(lambda tx: _release(tx, session.id, hold))
            raise

        async def open_(tx: Transaction) -> bool:
            found = await sessions.locked(tx, session.id)
            if found is None or not _is_held(found, hold):
                return False
            columns = {} if finish is None else await finish(tx, found)
            if found.from_snapshot_id:
                columns = {**columns, "snapshot_id": found.id, "workspace_made": 1}
            opened = {"phase": Phase.OPEN, "expire_time": 0, "hold_until": 0}
            await sessions.update(tx, found.id, **opened, **columns)
            return True

        if not (hold and await self._database.run(open_)):
            # Another call with the same request fills it, or has.
            await self._opened(session.id)

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


async def _hold(tx: Transaction, session_id: str, mine: int = 0) -> int:
    """Hold a session that is to be filled, or hold it longer; return until when, 0 when it is not ours.

    Until when is also what the hold is known by: nobody else has the same.
    """
    session = await sessions.locked(tx, session_id)
    free = session is not None and session.phase == Phase.FILLING and session.hold_until <= clock.now()
    if session is None or not (_is_held(session, mine) if mine else free):
        return 0
    until = clock.now() + clock.micros(_HOLD)
    # Nor is it removed as one that was never finished while somebody is at it.
    await sessions.update(tx, session_id, hold_until=until, expire_time=max(session.expire_time, until))
    return until


def _is_held(session: SessionRow, hold: int) -> bool:
    return session.phase == Phase.FILLING and session.hold_until == hold


async def _release(tx: Transaction, session_id: str, hold: int) -> None:
    session = await sessions.locked(tx, session_id)
    if session is not None and _is_held(session, hold):
        await sessions.update(tx, session_id, hold_until=0)
