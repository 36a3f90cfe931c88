"""Forks: a new session that goes on from a finished turn of another, with its conversation and its files."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import session_service_pb2
from servicekit.errors import Failure

from session import clock, names
from session.caller import Caller
from session.database import Database
from session.fork_copy import copy_history
from session.peers import Party, Runner
from session.refusals import session_not_found, turn_not_found
from session.rows import SessionRow, TurnRow
from session.sessions import NewSession, Sessions, new_session
from session.snapshots import HOLD
from session.store import requests, sessions, turns
from session.tables import SessionPhase
from session.transaction import Transaction

# A fork that was begun and never finished is removed after this time.
_UNFINISHED: Final = timedelta(minutes=10)
_TURNS_SHOWN: Final = 50
# So long a call waits for a workspace that is being copied.
_WAIT_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True)
class _Fork:
    """What is to become of what."""

    source: SessionRow
    turn: TurnRow
    target: SessionRow


class Forks:
    """Makes forks: both halves or neither, once per request."""

    def __init__(self, database: Database, runner: Runner, sessions_: Sessions) -> None:
        self._database = database
        self._sessions = sessions_
        self._runner = runner

    async def fork(
        self, caller: Caller, session_id: str, turn_name: str, *, request_id: str, title: str
    ) -> session_service_pb2.Session:
        """Return a new session that goes on from a finished turn, by default the newest.

        Raises Failure SESSION_NOT_FOUND, TURN_NOT_FOUND, TURN_NOT_FORKABLE, REQUEST_ID_REUSED.
        """
        turn_id = _turn_id(session_id, turn_name)
        body = hashlib.sha256(repr((session_id, turn_id, title)).encode()).digest()
        fresh = names.new_id()

        async def begin(tx: Transaction) -> _Fork:
            source = await sessions.get(tx, caller, session_id)
            made = await requests.once(
                tx, caller.tenant, request_id, method="ForkSession", body_hash=body, resource=fresh
            )
            if made == fresh:
                turn = await _origin(tx, session_id, turn_id)
                await _check_files(tx, turn)
                await sessions.insert(tx, **_target(fresh, source, turn, title))
            return await self._found(tx, source, made)

        await self._files_kept(caller, session_id)
        fork = await self._database.run(begin)
        if fork.target.phase == SessionPhase.FORKING:
            await self._fill(caller, fork, request_id)
        return await self._sessions.get(caller, fork.target.id)

    async def _files_kept(self, caller: Caller, session_id: str) -> None:
        """Wait while the workspace is being copied, as it is after a turn that changed it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS):
                while True:
                    source = await self._database.run(lambda tx: sessions.get(tx, caller, session_id))
                    if source.hold_until <= clock.now():
                        return
                    await asyncio.sleep(_LOOK_SECONDS)

    @staticmethod
    async def _found(tx: Transaction, source: SessionRow, target_id: str) -> _Fork:
        target = await sessions.maybe(tx, target_id)
        if target is None or target.phase == SessionPhase.DELETING:
            raise session_not_found(target_id)
        _, turn_id = names.turn_ids_of(target.forked_from)
        return _Fork(source, await turns.get(tx, source.id, turn_id), target)

    async def _fill(self, caller: Caller, fork: _Fork, request_id: str) -> None:
        """Fill the fork and open it, or wait for the call with the same request that does."""
        if not await self._database.run(lambda tx: _held(tx, fork.target.id)):
            await self._opened(fork.target.id)
            return
        if fork.turn.snapshot_id:
            party = Party(fork.target.tenant, fork.target.account, caller.principal, request_id)
            try:
                await self._runner.restore_snapshot(party, fork.target.name, fork.turn.snapshot_id)
            except Failure:
                await self._database.run(lambda tx: sessions.update(tx, fork.target.id, hold_until=0))
                raise

        async def finish(tx: Transaction) -> None:
            target = await sessions.locked(tx, fork.target.id)
            if target is None or target.phase != SessionPhase.FORKING:
                # The same request, at the same moment, was faster.
                return
            last = await copy_history(tx, fork.source, fork.turn, fork.target)
            opened = {"phase": SessionPhase.OPEN, "expire_time": 0, "hold_until": 0}
            await sessions.update(tx, target.id, **opened, last_sequence=last, first_sequence=1)

        await self._database.run(finish)

    async def _opened(self, session_id: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS):
                while True:
                    target = await self._database.run(lambda tx: sessions.maybe(tx, session_id))
                    if target is None or target.phase != SessionPhase.FORKING:
                        return
                    await asyncio.sleep(_LOOK_SECONDS)
        raise Failure(
            errors_pb2.ERROR_REASON_SESSION_BUSY, "The fork is still being made. Send the same request again."
        )


async def _held(tx: Transaction, session_id: str) -> bool:
    """Hold a fork that is to be filled, so that nobody else fills it; tell whether it is ours to fill."""
    target = await sessions.locked(tx, session_id)
    if target is None or target.phase != SessionPhase.FORKING or target.hold_until > clock.now():
        return False
    await sessions.update(tx, session_id, hold_until=clock.now() + HOLD)
    return True


def _turn_id(session_id: str, turn_name: str) -> str:
    if not turn_name:
        return ""
    of_session, turn_id = names.turn_ids_of(turn_name, "turn")
    if of_session != session_id:
        raise turn_not_found(session_id, turn_id)
    return turn_id


async def _origin(tx: Transaction, session_id: str, turn_id: str) -> TurnRow:
    if turn_id:
        turn = await turns.get(tx, session_id, turn_id)
        if not turn.over:
            raise _not_forkable("The turn is not over.")
        return turn
    over = [turn for turn in await turns.newest(tx, session_id, _TURNS_SHOWN) if turn.over]
    if not over:
        raise _not_forkable("The session has no turn that is over.")
    return max(over, key=lambda turn: (turn.end_time, turn.id))


async def _check_files(tx: Transaction, turn: TurnRow) -> None:
    if not turn.snapshot_id and await turns.files_before(tx, turn):
        raise _not_forkable("The workspace as this turn left it is not kept any more, or could not be kept.")


def _target(session_id: str, source: SessionRow, turn: TurnRow, title: str) -> dict[str, object]:
    wanted = NewSession(source.account, title or source.title.decode(), "", source.template)
    return new_session(session_id, source.tenant, wanted, "") | {
        "phase": SessionPhase.FORKING,
        "preferred_model": source.preferred_model,
        "preferred_set": source.preferred_set,
        "forked_from": turn.name,
        "expire_time": clock.now() + clock.micros(_UNFINISHED),
    }


def _not_forkable(why: str) -> Failure:
    return Failure(errors_pb2.ERROR_REASON_TURN_NOT_FORKABLE, f"{why} Fork from a turn that is over.")
