"""The agent's own memory: kept as the SDK writes it, so that a session resumes on any machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from session.caller import Caller
from session.storage.database import Database
from session.storage.statements import sessions, transcripts
from session.storage.statements.transcripts import Entry, Key
from session.storage.transaction import Transaction

# Lines read at once, and bytes sent at once: a message holds 4 MiB, and one line is never larger than one
# that came in a message.
_PAGE: Final = 200
_PIECE_BYTES: Final = 1024 * 1024


class Transcripts:
    """Keeps transcripts of sessions that the caller sees."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, caller: Caller, key: Key, entries: Sequence[Entry], epoch: int) -> None:
        """Add lines, all or none. With an epoch: Failure LEASE_LOST unless it is the newest turn's."""

        async def work(tx: Transaction) -> None:
            await sessions.get(tx, caller, key.session_id)
            if epoch and not await transcripts.epoch_holds(tx, key.session_id, epoch):
                raise Failure(
                    errors_pb2.ERROR_REASON_LEASE_LOST,
                    f"The session's newest turn has another epoch than {epoch}; nothing was written.",
                )
            await transcripts.append(tx, key, entries)

        await self._database.run(work)

    async def load(self, caller: Caller, key: Key) -> AsyncIterator[list[Entry]]:
        """Yield all lines in order, in pieces; nothing at all for what was never written."""
        await self._database.run(lambda tx: sessions.get(tx, caller, key.session_id))
        after, piece, size = 0, list[Entry](), 0
        while True:
            page = await self._page(key, after)
            for _, entry in page:
                if piece and size + len(entry.line) > _PIECE_BYTES:
                    yield piece
                    piece, size = [], 0
                piece.append(entry)
                size += len(entry.line)
            if len(page) < _PAGE:
                break
            after = page[-1][0]
        if piece:
            yield piece

    async def _page(self, key: Key, after: int) -> list[tuple[int, Entry]]:
        return await self._database.run(lambda tx: transcripts.read(tx, key, after, _PAGE))

    async def keys(self, caller: Caller, session_id: str, project: str) -> list[tuple[Key, int]]:
        """Return a session's transcripts with the time of their newest line."""

        async def work(tx: Transaction) -> list[tuple[Key, int]]:
            await sessions.get(tx, caller, session_id)
            return await transcripts.keys(tx, session_id, project)

        return await self._database.run(work)

    async def delete(self, caller: Caller, key: Key) -> None:
        """Delete a transcript; the main one with all below it."""

        async def work(tx: Transaction) -> None:
            await sessions.get(tx, caller, key.session_id)
            await transcripts.delete(tx, key)

        await self._database.run(work)
