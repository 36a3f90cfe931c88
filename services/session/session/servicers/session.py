"""SessionService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pointsman.session.v1 import session_service_pb2 as pb
from pointsman.session.v1 import session_service_pb2_grpc
from servicekit.context import account_of, current_passport, log_fields

from session import names
from session.caller import Caller
from session.events.watch import Watch
from session.queue.edit import Editor
from session.queue.turns import Turns
from session.sessions.beginning import NewSession
from session.sessions.deletion import Deletion
from session.sessions.fork import Forks
from session.sessions.sessions import Sessions
from session.sessions.settings import settings_of


class SessionServicer(session_service_pb2_grpc.SessionServiceServicer):
    """Sessions, their turns and their events."""

    def __init__(
        self,
        *,
        sessions: Sessions,
        turns: Turns,
        watch: Watch,
        editor: Editor,
        forks: Forks,
        deletion: Deletion,
    ) -> None:
        self._sessions = sessions
        self._turns = turns
        self._watch = watch
        self._editor = editor
        self._forks = forks
        self._deletion = deletion

    async def CreateSession(
        self, request: pb.CreateSessionRequest, _context: Any
    ) -> pb.CreateSessionResponse:
        """Make a session."""
        wanted = NewSession(
            account=account_of(request.account),
            title=request.session.title,
            preferred_model=request.session.preferred_model,
            template=request.session.template,
            snapshot=request.snapshot,
            settings=settings_of(request.session),
        )
        session = await self._sessions.create(_caller(), names.request_id_of(request.request_id), wanted)
        log_fields(session=session.name)
        return pb.CreateSessionResponse(session=session)

    async def GetSession(self, request: pb.GetSessionRequest, _context: Any) -> pb.GetSessionResponse:
        """Return one session."""
        session_id = _named(request.name)
        return pb.GetSessionResponse(session=await self._sessions.get(_caller(), session_id))

    async def ListSessions(self, request: pb.ListSessionsRequest, _context: Any) -> pb.ListSessionsResponse:
        """Return a page of sessions."""
        account = account_of(request.account) if request.account else ""
        views, token = await self._sessions.page(_caller(), account, request.page_size, request.page_token)
        return pb.ListSessionsResponse(sessions=views, next_page_token=token)

    async def UpdateSession(
        self, request: pb.UpdateSessionRequest, _context: Any
    ) -> pb.UpdateSessionResponse:
        """Change a session."""
        session = await self._sessions.update(
            _caller(),
            names.request_id_of(request.request_id),
            _named(request.session.name, "session.name"),
            request.session,
            request.update_mask.paths,
        )
        return pb.UpdateSessionResponse(session=session)

    async def DeleteSession(
        self, request: pb.DeleteSessionRequest, _context: Any
    ) -> pb.DeleteSessionResponse:
        """Delete a session."""
        await self._deletion.delete(_caller(), _named(request.name))
        return pb.DeleteSessionResponse()

    async def ForkSession(self, request: pb.ForkSessionRequest, _context: Any) -> pb.ForkSessionResponse:
        """Make a session that goes on from a turn."""
        request_id = names.request_id_of(request.request_id)
        session = await self._forks.fork(
            _caller(), _named(request.name), request.turn, request_id=request_id, title=request.title
        )
        return pb.ForkSessionResponse(session=session)

    async def UpdateTurn(self, request: pb.UpdateTurnRequest, _context: Any) -> pb.UpdateTurnResponse:
        """Change a turn that waits."""
        log_fields(turn=request.turn.name)
        request_id = names.request_id_of(request.request_id)
        turn = await self._editor.update(_caller(), request.turn, request.update_mask.paths, request_id)
        return pb.UpdateTurnResponse(turn=turn)

    async def ListTurns(self, request: pb.ListTurnsRequest, _context: Any) -> pb.ListTurnsResponse:
        """Return a page of turns."""
        session_id = _named(request.session, "session")
        views, token = await self._turns.page(
            _caller(), session_id, request.states, request.page_size, request.page_token
        )
        return pb.ListTurnsResponse(turns=views, next_page_token=token)

    async def GetTurn(self, request: pb.GetTurnRequest, _context: Any) -> pb.GetTurnResponse:
        """Return one turn."""
        session_id, turn_id = names.turn_ids_of(request.name)
        log_fields(session=names.session_name(session_id), turn=request.name)
        return pb.GetTurnResponse(turn=await self._turns.get(_caller(), session_id, turn_id))

    async def ListEvents(self, request: pb.ListEventsRequest, _context: Any) -> pb.ListEventsResponse:
        """Return a page of events."""
        session_id = _named(request.session, "session")
        read, token = await self._turns.events(
            _caller(), session_id, request.after_sequence, request.page_size, request.page_token
        )
        return pb.ListEventsResponse(events=read, next_page_token=token)

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, _context: Any
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        """Stream events."""
        session_id = _named(request.session, "session")
        if request.turn:
            log_fields(turn=request.turn)
        watching = self._watch.watching(_caller(), session_id, request.after_sequence, request.turn)
        async with watching as events:
            async for event in events:
                yield pb.WatchEventsResponse(event=event)


def _caller() -> Caller:
    return Caller.of(current_passport())


def _named(name: str, field: str = "name") -> str:
    """Return the id in a session's name, and put the name in the call's log line."""
    log_fields(session=name)
    return names.session_id_of(name, field)
