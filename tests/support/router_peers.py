"""A session service that plays a script, on a real socket: what the router is tested against."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import (
    event_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    turn_pb2,
    turn_service_pb2,
    turn_service_pb2_grpc,
)
from servicekit.context import current_passport, current_request_id
from servicekit.drain import Drain
from servicekit.errors import Failure
from servicekit.passport import Passport
from servicekit.serving import RunningServer, Servicer, serving
from servicekit.testing import Keys

Event = event_pb2.Event


def text(piece: str, offset: int = 0, *, message: str = "m1") -> Event:
    """A live piece of text, which has no place in the log."""
    delta = event_pb2.TextDelta(text=piece, message_id=message, offset=offset)
    return Event(text_delta=delta)


def said(whole: str, *, message: str = "m1") -> Event:
    """The finished block."""
    return Event(assistant_message=event_pb2.AssistantMessage(text=whole, message_id=message))


def finished(result: str = "4", **fields: Any) -> Event:
    """The end of a turn; it succeeded unless `outcome` says otherwise."""
    fields.setdefault("outcome", turn_pb2.TURN_STATE_SUCCEEDED)
    usage = turn_pb2.Usage(input_tokens=10, output_tokens=2, model_calls=1)
    return Event(turn_finished=turn_pb2.TurnFinished(result=result, usage=usage, **fields))


ANSWER = (
    Event(turn_queued=event_pb2.TurnQueued(position=1)),
    Event(turn_started=event_pb2.TurnStarted(model="demo/offline")),
    said("4"),
    finished("4"),
)


@dataclass
class SessionPeer(turn_service_pb2_grpc.TurnServiceServicer, session_service_pb2_grpc.SessionServiceServicer):
    """Every turn it is given plays `script`. What it was asked is kept for tests to look at."""

    script: Sequence[Event] = ANSWER
    first_sequence: int = 1
    cut_after: list[int] = field(default_factory=list)
    """Stream after stream, the number of events after which the connection breaks; then none breaks."""
    refusal: Failure | None = None
    """What EnqueueTurn and RunTurn answer, once."""
    hold: tuple[int, asyncio.Event] | None = None
    """After so many events of a stream, the rest waits for the event."""
    on_event: Callable[[int], None] = lambda _sent: None

    enqueued: list[turn_service_pb2.EnqueueTurnRequest] = field(default_factory=list)
    watches: list[session_service_pb2.WatchEventsRequest] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    decided: list[turn_service_pb2.DecidePermissionRequest] = field(default_factory=list)
    created: dict[str, session_service_pb2.Session] = field(default_factory=dict)
    passports: list[Passport] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    turns: dict[str, turn_pb2.Turn] = field(default_factory=dict)
    open_streams: int = 0

    async def EnqueueTurn(self, request: Any, context: Any) -> turn_service_pb2.EnqueueTurnResponse:
        return self._enqueue(request)

    async def RunTurn(self, request: Any, context: Any) -> AsyncIterator[turn_service_pb2.RunTurnResponse]:
        turn = self._enqueue(request.request).turn
        yield turn_service_pb2.RunTurnResponse(turn=turn)
        async with aclosing(self._play(turn.name, 0)) as events:
            async for event in events:
                yield turn_service_pb2.RunTurnResponse(event=event)

    def _enqueue(self, request: turn_service_pb2.EnqueueTurnRequest) -> turn_service_pb2.EnqueueTurnResponse:
        self.passports.append(current_passport())
        self.request_ids.append(current_request_id())
        self.enqueued.append(request)
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal
        created = request.request_id not in self.turns
        if created:
            self.turns[request.request_id] = self._turn(request)
        return turn_service_pb2.EnqueueTurnResponse(turn=self.turns[request.request_id], created=created)

    def _turn(self, request: turn_service_pb2.EnqueueTurnRequest) -> turn_pb2.Turn:
        mine = [one for one in self.created.values() if one.account == request.account]
        if request.newest_session and not mine:
            mine = [self._session(request.account)]
            self.created[request.request_id] = mine[0]
        newest = mine[-1].name if request.newest_session else ""
        session = request.session or newest or f"sessions/{uuid.uuid4()}"
        return turn_pb2.Turn(
            name=f"{session}/turns/{uuid.uuid4()}",
            session=session,
            account=request.account,
            request_id=request.request_id,
            prompt=request.prompt,
            model=request.model or "demo/offline",
            state=turn_pb2.TURN_STATE_QUEUED,
            first_sequence=self.first_sequence,
        )

    async def FindTurn(self, request: Any, context: Any) -> turn_service_pb2.FindTurnResponse:
        return turn_service_pb2.FindTurnResponse(turn=self.turns.get(request.request.request_id))

    async def CancelTurn(self, request: Any, context: Any) -> turn_service_pb2.CancelTurnResponse:
        self.cancelled.append(request.name)
        turn = turn_pb2.Turn(name=request.name, state=turn_pb2.TURN_STATE_CANCELLED)
        return turn_service_pb2.CancelTurnResponse(turn=turn)

    async def DecidePermission(self, request: Any, context: Any) -> turn_service_pb2.DecidePermissionResponse:
        self.decided.append(request)
        decided = event_pb2.PermissionDecided(permission_id=request.permission_id, decision=request.decision)
        return turn_service_pb2.DecidePermissionResponse(decided=decided)

    async def ListSessions(self, request: Any, context: Any) -> session_service_pb2.ListSessionsResponse:
        mine = [session for session in self.created.values() if session.account == request.account]
        return session_service_pb2.ListSessionsResponse(sessions=mine[::-1][: request.page_size])

    async def GetSession(self, request: Any, context: Any) -> session_service_pb2.GetSessionResponse:
        found = next((one for one in self.created.values() if one.name == request.name), None)
        if found is None:
            raise Failure(errors_pb2.ERROR_REASON_SESSION_NOT_FOUND, "No such session.")
        return session_service_pb2.GetSessionResponse(session=found)

    async def CreateSession(self, request: Any, context: Any) -> session_service_pb2.CreateSessionResponse:
        made = self._session(request.account, request.session.title)
        known = self.created.setdefault(request.request_id, made)
        return session_service_pb2.CreateSessionResponse(session=known)

    @staticmethod
    def _session(account: str, title: str = "") -> session_service_pb2.Session:
        return session_service_pb2.Session(name=f"sessions/{uuid.uuid4()}", account=account, title=title)

    async def WatchEvents(
        self, request: Any, context: Any
    ) -> AsyncIterator[session_service_pb2.WatchEventsResponse]:
        self.watches.append(request)
        async with aclosing(self._play(request.turn, request.after_sequence)) as events:
            async for event in events:
                yield session_service_pb2.WatchEventsResponse(event=event)

    async def _play(self, turn: str, after: int) -> AsyncGenerator[Event, None]:
        cut = self.cut_after.pop(0) if self.cut_after else None
        self.open_streams += 1
        try:
            sent = 0
            for event in self.events(turn):
                if 0 < event.sequence <= after:
                    continue
                if sent == cut:
                    raise Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "Cut by the script.")
                if self.hold is not None and sent == self.hold[0]:
                    await self.hold[1].wait()
                yield event
                sent += 1
                self.on_event(sent)
            if not self.script[-1].HasField("turn_finished"):
                await asyncio.Event().wait()
        finally:
            self.open_streams -= 1

    def events(self, turn: str) -> Sequence[Event]:
        """The script with the turn's name and sequence numbers: 0 for pieces, gapless for the rest."""
        numbered = []
        sequence = self.first_sequence
        for scripted in self.script:
            event = Event(turn=turn)
            event.MergeFrom(scripted)
            if event.WhichOneof("kind") not in ("text_delta", "thinking_delta", "keep_alive"):
                event.sequence = sequence
                sequence += 1
            numbered.append(event)
        return numbered


@asynccontextmanager
async def session_service(
    peer: SessionPeer, keys: Keys, *, address: str = "127.0.0.1:0", grace: float = 0.2
) -> AsyncIterator[RunningServer]:
    """Serve the peer. Entered again with the same address, it is the same service after a restart."""
    servicers = [
        Servicer(
            turn_service_pb2_grpc.add_TurnServiceServicer_to_server,
            peer,
            turn_service_pb2.DESCRIPTOR.services_by_name["TurnService"],
        ),
        Servicer(
            session_service_pb2_grpc.add_SessionServiceServicer_to_server,
            peer,
            session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
        ),
    ]
    async with serving(
        service="session",
        address=address,
        servicers=servicers,
        verifier=keys.verifier,
        drain=Drain(),
        grace=grace,
    ) as server:
        yield server
