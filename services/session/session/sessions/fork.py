"""Forks: a new session that goes on from a finished turn of another, with its conversation and its files."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import session_service_pb2
from servicekit.errors import Failure

from session import clock, names
from session.caller import Caller
from session.peers import Party
from session.refusals import session_busy, turn_not_found
from session.sessions.beginning import NewSession, new_session
from session.sessions.filling import Filler, being_made, to_be_filled
from session.sessions.fork_copy import copy_history
from session.sessions.sessions import Sessions
from session.sessions.snapshots import Snapshots
from session.storage.database import Database
from session.storage.rows import SessionRow, TurnRow
from session.storage.statements import requests, sessions, turns
from session.storage.tables import Phase
from session.storage.transaction import Transaction

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

    def __init__(self, database: Database, filler: Filler, sessions_: Sessions, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._database = database
        self._sessions = sessions_
        self._filler = filler

    async def fork(
        self, caller: Caller, session_id: str, turn_name: str, *, request_id: str, title: str
    ) -> session_service_pb2.Session:
        """Return a new session that goes on from a finished turn, by default the newest.

        A fork of the newest turn has the files that the workspace has now, one of an earlier turn those that
        the turn left.

        Raises Failure SESSION_NOT_FOUND, TURN_NOT_FOUND, TURN_NOT_FORKABLE, REQUEST_ID_REUSED, SESSION_BUSY
        while the workspace that the turn left is being copied.
        """
        turn_id = _turn_id(session_id, turn_name)
        body = hashlib.sha256(repr((session_id, turn_id, title)).encode()).digest()
        fresh = names.new_id()

        async def begin(tx: Transaction) -> _Fork:
            source = await sessions.get(tx, caller, session_id)
            made = await requests.once(
                tx,
                caller.tenant,
                source.account,
                request_id,
                method="ForkSession",
                body_hash=body,
                resource=fresh,
            )
            if made == fresh:
                turn = await _origin(tx, session_id, turn_id)
                if not now:
                    await _check_files(tx, source, turn)
                files = now or turn.snapshot_id
                await sessions.insert(tx, **_target(fresh, source, turn, title, files))
            return await self._found(tx, source, made)

        await self._files_kept(caller, session_id)
        now = await self._snapshots.for_fork(caller, session_id, turn_id, request_id)
        fork = await self._database.run(begin)
        if fork.target.phase == Phase.FILLING:
            # When this fails, the next try of the same request still needs what was kept.
            await self._fill(caller, fork, request_id)
        if now:
            await self._snapshots.forked(caller, session_id, now, request_id)
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
        target = await being_made(tx, target_id)
        _, turn_id = names.turn_ids_of(target.forked_from)
        return _Fork(source, await turns.get(tx, source.id, turn_id), target)

    async def _fill(self, caller: Caller, fork: _Fork, request_id: str) -> None:
        async def history(tx: Transaction, target: SessionRow) -> dict[str, object]:
            last = await copy_history(tx, fork.source, fork.turn, target)
            return {"last_sequence": last, "first_sequence": 1}

        party = Party(fork.target.tenant, fork.target.account, caller.principal, request_id)
        await self._filler.fill(party, fork.target, finish=history)


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
    newest = await turns.newest_over(tx, session_id)
    if newest is None:
        raise _not_forkable("The session has no turn that is over.")
    return newest


async def _check_files(tx: Transaction, source: SessionRow, turn: TurnRow) -> None:
    if not turn.snapshot_id and await turns.files_before(tx, turn):
        if source.hold_until > clock.now():
            raise session_busy()
        raise _not_forkable("The workspace as this turn left it is not kept any more, or could not be kept.")


def _target(session_id: str, source: SessionRow, turn: TurnRow, title: str, files: str) -> dict[str, object]:
    """Return the new session's columns; `files` is the snapshot that it begins with, '' for none."""
    wanted = NewSession(source.account, title or source.title.decode(), template=source.template)
    return (
        new_session(session_id, source.tenant, wanted)
        | to_be_filled()
        | {
            "preferred_model": source.preferred_model,
            "preferred_set": source.preferred_set,
            "forked_from": turn.name,
            "sandbox_settings": source.sandbox_settings,
            "turn_options": source.turn_options,
            "from_snapshot_id": files,
        }
    )


def _not_forkable(why: str) -> Failure:
    return Failure(errors_pb2.ERROR_REASON_TURN_NOT_FORKABLE, f"{why} Fork from a turn that is over.")
