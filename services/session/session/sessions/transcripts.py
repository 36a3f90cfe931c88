"""The agent's own memory: kept as the SDK writes it, so that a session resumes on any machine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from session.caller import Caller
from session.storage.database import Database
from session.storage.statements import sessions, transcripts
from session.storage.statements.transcripts import Entry, Key
from session.storage.transaction import Transaction

SESSION_BYTES: Final = 256 * 1024 * 1024
"""Of all transcripts of a session. A conversation of a hundred long turns has some ten megabytes."""
# Sessions whose size is not asked of the database at each line; each is some 200 bytes.
_SIZES: Final = 10_000
# Lines read at once, and bytes sent at once: a message holds 4 MiB, and one line is never larger than one
# that came in a message.
_PAGE: Final = 200
_PIECE_BYTES: Final = 1024 * 1024


class Transcripts:
    """Keeps transcripts of sessions that the caller sees."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # The least that sessions have, as far as lines came through here.
        self._sizes: OrderedDict[str, int] = OrderedDict()

    async def append(self, caller: Caller, key: Key, entries: Sequence[Entry], epoch: int) -> None:
        """Add lines, all or none. With an epoch: Failure LEASE_LOST unless it is the newest turn's.

        Failure MESSAGE_TOO_LARGE when the session would have more than SESSION_BYTES.
        """
        added = sum(len(entry.line) for entry in entries)

        async def work(tx: Transaction) -> None:
            await sessions.get(tx, caller, key.session_id)
            if epoch and not await transcripts.epoch_holds(tx, key.session_id, epoch):
                raise Failure(
                    errors_pb2.ERROR_REASON_LEASE_LOST,
                    f"The session's newest turn has another epoch than {epoch}; nothing was written.",
                )
            known = self._sizes.get(key.session_id)
            if known is None or known + added > SESSION_BYTES:
                # It may have become less meanwhile.
                known = await transcripts.size(tx, key.session_id)
            if known + added > SESSION_BYTES:
                raise _full()
            await transcripts.append(tx, key, entries)
            sizes.append(known + added)

        sizes: list[int] = []
        await self._database.run(work)
        self._note(key.session_id, sizes[-1])

    def _note(self, session_id: str, size: int) -> None:
        self._sizes[session_id] = size
        self._sizes.move_to_end(session_id)
        if len(self._sizes) > _SIZES:
            self._sizes.popitem(last=False)

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
            if transcripts.is_last(page, _PAGE):
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


def _full() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
        f"The transcripts of a session may have {SESSION_BYTES // 1024 // 1024} MiB; they are full.",
        limit=str(SESSION_BYTES),
    )
