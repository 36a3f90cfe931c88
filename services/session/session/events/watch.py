"""Who watches a session: callers with a cursor, and those who have just made a turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import timedelta

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from session import names
from session.caller import Caller
from session.events.hub import Hub, Watcher
from session.events.stream import Stream
from session.refusals import invalid_field
from session.storage.database import Database
from session.storage.rows import SessionRow, TurnRow
from session.storage.statements import sessions, turns
from session.storage.transaction import Transaction


class Watch:
    """Watches sessions on behalf of callers. After `quiet` without an event comes a `keep_alive`."""

    def __init__(self, database: Database, hub: Hub, quiet: timedelta) -> None:
        self._database = database
        self._hub = hub
        self._quiet = quiet.total_seconds()

    @asynccontextmanager
    async def watching(
        self, caller: Caller, session_id: str, after: int, turn: str = ""
    ) -> AsyncIterator[AsyncIterator[event_pb2.Event]]:
        """Give a stream of events after a sequence number, without end; with a turn, of its own, to its end.

        Raises Failure SESSION_NOT_FOUND, TURN_NOT_FOUND, CURSOR_AHEAD, CURSOR_EXPIRED at once; the stream
        raises SESSION_DELETED or SERVICE_DRAINING.
        """
        turn_id = _turn_id(session_id, turn)
        with self._hub.watching(session_id) as watcher:
            cursor = await self._start(caller, session_id, after, turn_id)
            yield _nothing() if cursor is None else self.stream(watcher, session_id, cursor, turn_id).events()

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Give a place at the events of a turn that is about to be made."""
        with ExitStack() as stack:
            place = Place(self, self._hub, stack)
            stack.callback(place.leave)
            yield place

    def stream(self, watcher: Watcher, session_id: str, cursor: int, turn_id: str) -> Stream:
        """Return a stream that begins after a cursor."""
        return Stream(self._database, watcher, session_id, cursor=cursor, turn_id=turn_id, quiet=self._quiet)

    async def _start(self, caller: Caller, session_id: str, after: int, turn_id: str) -> int | None:
        """Return the cursor to begin at; None when there is nothing to come."""

        async def look(tx: Transaction) -> tuple[SessionRow, TurnRow | None]:
            session = await sessions.get(tx, caller, session_id)
            return session, await turns.get(tx, session_id, turn_id) if turn_id else None

        session, turn = await self._database.run(look)
        cursor = check_cursor(session, after)
        if turn is None:
            return cursor
        if turn.over and cursor >= turn.last_sequence:
            return None
        return max(cursor, turn.first_sequence - 1)


class Place:
    """A place at one turn's events, taken before there are any: then nothing has to be looked for."""

    def __init__(self, watch: Watch, hub: Hub, stack: ExitStack) -> None:
        self._watch = watch
        self._hub = hub
        self._stack = stack
        self._left = False
        self._events: AsyncIterator[event_pb2.Event] | None = None

    def take(self, turn: TurnRow, ours: bool) -> None:
        """Join the watchers of a turn that was just made, of which nothing is published yet.

        One that is not `ours` to run may have been begun elsewhere meanwhile: the log is read then.
        """
        if self._left:
            return
        watcher = self._stack.enter_context(self._hub.watching(turn.session_id))
        if ours:
            watcher.catch_up()
            watcher.go_live()
        stream = self._watch.stream(watcher, turn.session_id, turn.first_sequence - 1, turn.id)
        self._events = stream.events()

    def leave(self) -> None:
        """Nobody sits here any more."""
        self._left = True

    @asynccontextmanager
    async def events(self, caller: Caller, turn: TurnRow) -> AsyncIterator[AsyncIterator[event_pb2.Event]]:
        """Give the turn's events, from its first to its end; those of one that was made before, too.

        Raises as `Watch.watching` does.
        """
        if self._events is not None:
            yield self._events
            return
        after = turn.first_sequence - 1
        async with self._watch.watching(caller, turn.session_id, after, turn.name) as events:
            yield events


def check_cursor(session: SessionRow, after: int) -> int:
    """Return the cursor, from which everything that follows is kept; 0 becomes the oldest one kept.

    Raises Failure CURSOR_AHEAD or CURSOR_EXPIRED.
    """
    if after > session.last_sequence:
        raise Failure(
            errors_pb2.ERROR_REASON_CURSOR_AHEAD,
            f"The session has no event {after} yet; its newest is {session.last_sequence}. "
            "Is the cursor of another session?",
            last_sequence=str(session.last_sequence),
        )
    if after == 0:
        return session.first_sequence - 1
    if after < session.first_sequence - 1:
        raise Failure(
            errors_pb2.ERROR_REASON_CURSOR_EXPIRED,
            f"Events before {session.first_sequence} are not kept any more. Start again without a cursor.",
            first_sequence=str(session.first_sequence),
        )
    return after


def _turn_id(session_id: str, turn: str) -> str:
    if not turn:
        return ""
    of_session, turn_id = names.turn_ids_of(turn, "turn")
    if of_session != session_id:
        raise invalid_field("turn", "must be a turn of the session")
    return turn_id


async def _nothing() -> AsyncIterator[event_pb2.Event]:
    none: tuple[event_pb2.Event, ...] = ()
    for event in none:
        yield event
