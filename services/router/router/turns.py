"""The session service, as the router uses it: turns in, their events out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc.aio
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import (
    event_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    turn_pb2,
    turn_service_pb2,
    turn_service_pb2_grpc,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)
from pointsman_client.deltas import Deltas
from pointsman_client.patience import Patience
from servicekit.channels import served_metadata
from servicekit.context import log_fields
from servicekit.errors import Failure
from servicekit.passport import PassportSigner

_SERVICE: Final = "session"
# A commit takes milliseconds; a database that is gone is told as such within 5 s.
_CALL_SECONDS: Final = 8.0
_CALL_PATIENCE: Final = 8.0
_WATCH_PATIENCE: Final = 30.0
# What may be gone when the service has started again; a server that stops cancels what is still running.
_PASSING: Final = frozenset(
    {
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_SERVICE_DRAINING,
        errors_pb2.ERROR_REASON_CALL_CANCELLED,
    }
)

# What a stream's `read` returns after its last message.
_END: Final = grpc.aio.EOF  # type: ignore[attr-defined]

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Run:
    """A turn that is durable, and its events: from the first to `turn_finished`, each once and in order.

    They go on where the session service's stream broke, and raise the Failure when it stays away for 30
    seconds.
    """

    turn: turn_pb2.Turn
    events: AsyncGenerator[event_pb2.Event, None]


class Turns:
    """Calls the session service and outlives its restarts.

    Calls go on behalf of the caller that is being served. The channel adds passport and request id to calls
    with one answer; to streams they are added here, where it costs nothing for each message.
    """

    def __init__(self, channel: grpc.aio.Channel, signer: PassportSigner) -> None:
        self._signer = signer
        self._turns = turn_service_pb2_grpc.TurnServiceStub(channel)
        self._sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        self._workspaces = workspace_service_pb2_grpc.WorkspaceServiceStub(channel)

    async def enqueue(self, request: turn_service_pb2.EnqueueTurnRequest) -> turn_pb2.Turn:
        """Make a turn durable. `request_id` must be set: only that makes it safe to try again."""
        answer = await _patiently(lambda: self._turns.EnqueueTurn(request, timeout=_CALL_SECONDS))
        return _told(answer.turn)

    async def find(self, request: turn_service_pb2.EnqueueTurnRequest) -> turn_pb2.Turn | None:
        """Return the turn that this request made before, None when it has not come before."""
        asked = turn_service_pb2.FindTurnRequest(request=request)
        answer = await _patiently(lambda: self._turns.FindTurn(asked, timeout=_CALL_SECONDS))
        return _told(answer.turn) if answer.HasField("turn") else None

    async def cancel(self, name: str) -> turn_pb2.Turn:
        """Cancel a turn; harmless when it is over."""
        request = turn_service_pb2.CancelTurnRequest(name=name)
        answer = await _patiently(lambda: self._turns.CancelTurn(request, timeout=_CALL_SECONDS))
        return answer.turn

    async def decide(self, request: turn_service_pb2.DecidePermissionRequest) -> event_pb2.PermissionDecided:
        """Decide a permission request; the same decision again is harmless."""
        answer = await _patiently(lambda: self._turns.DecidePermission(request, timeout=_CALL_SECONDS))
        return answer.decided

    async def account_of_session(self, name: str) -> str:
        """Return the account that a session belongs to; raises Failure SESSION_NOT_FOUND."""
        request = session_service_pb2.GetSessionRequest(name=name)
        answer = await _patiently(lambda: self._sessions.GetSession(request, timeout=_CALL_SECONDS))
        return answer.session.account

    async def has_files(self, session: str) -> bool:
        """Whether the session's workspace has a file."""
        request = workspace_service_pb2.ListFilesRequest(session=session, page_size=1)
        answer = await _patiently(lambda: self._workspaces.ListFiles(request, timeout=_CALL_SECONDS))
        return bool(answer.files)

    async def newest_session(self, account: str) -> str | None:
        """Return the name of the account's session with the newest activity, None when it has none."""
        request = session_service_pb2.ListSessionsRequest(account=account, page_size=1)
        answer = await _patiently(lambda: self._sessions.ListSessions(request, timeout=_CALL_SECONDS))
        return answer.sessions[0].name if answer.sessions else None

    async def create_session(self, account: str, *, request_id: str, title: str = "") -> str:
        """Return the name of the session that this `request_id` made, now or before."""
        request = session_service_pb2.CreateSessionRequest(
            account=account, request_id=request_id, session=session_service_pb2.Session(title=title)
        )
        answer = await _patiently(lambda: self._sessions.CreateSession(request, timeout=_CALL_SECONDS))
        return answer.session.name

    @asynccontextmanager
    async def running(self, request: turn_service_pb2.EnqueueTurnRequest) -> AsyncIterator[Run]:
        """Make a turn durable, as `enqueue` does, and follow it while inside. It runs on outside."""
        call, turn = await self._begun(turn_service_pb2.RunTurnRequest(request=request))
        try:
            async with aclosing(self._follow(turn, _events(call))) as events:
                yield Run(turn, events)
        finally:
            call.cancel()

    @asynccontextmanager
    async def following(self, turn: turn_pb2.Turn) -> AsyncIterator[Run]:
        """Follow a turn that is durable while inside."""
        cursor = max(turn.first_sequence - 1, 0)
        async with aclosing(self._follow(turn, self._watch(turn, cursor))) as events:
            yield Run(turn, events)

    async def _begun(self, request: turn_service_pb2.RunTurnRequest) -> tuple[Any, turn_pb2.Turn]:
        """Return a call of RunTurn that has told its turn."""
        patience = _patience(_CALL_PATIENCE)
        while True:
            # Without a timeout: it lives as long as the caller's own call, which cancels it.
            call: Any = self._turns.RunTurn(request, metadata=served_metadata(self._signer))
            try:
                return call, _told(await _first(call))
            except Failure as failure:
                call.cancel()
                await patience.wait(failure)
            except asyncio.CancelledError:
                call.cancel()
                raise

    async def _follow(
        self, turn: turn_pb2.Turn, begun: AsyncGenerator[event_pb2.Event, None]
    ) -> AsyncGenerator[event_pb2.Event, None]:
        """Yield the turn's events, those that have begun to come first; see Run."""
        cursor = max(turn.first_sequence - 1, 0)
        deltas = Deltas()
        patience = _patience(_WATCH_PATIENCE)
        stream = begun
        while True:
            try:
                async with aclosing(stream):
                    async for event in stream:
                        patience.contact()
                        cursor = max(cursor, event.sequence)
                        if not deltas.fresh(event):
                            continue
                        yield event
                        if event.HasField("turn_finished"):
                            return
                # The service ended the stream in mid-turn without a reason: it is going away.
                raise _broken_off()
            except Failure as failure:
                await patience.wait(failure)
                stream = self._watch(turn, cursor)

    def _watch(self, turn: turn_pb2.Turn, cursor: int) -> AsyncGenerator[event_pb2.Event, None]:
        request = session_service_pb2.WatchEventsRequest(
            session=turn.session, after_sequence=cursor, turn=turn.name
        )
        return _events(self._sessions.WatchEvents(request, metadata=served_metadata(self._signer)))


async def _first(call: Any) -> turn_pb2.Turn:
    """Return the turn that a call of RunTurn tells first."""
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            response = await call.read()
    except grpc.aio.AioRpcError as error:
        raise Failure.from_rpc_error(error, _SERVICE) from None
    except TimeoutError:
        raise Failure(
            errors_pb2.ERROR_REASON_CALL_TIMED_OUT,
            f"The {_SERVICE} service did not answer in time.",
            service=_SERVICE,
        ) from None
    if response is _END:
        raise _broken_off()
    turn: turn_pb2.Turn = response.turn
    return turn


async def _events(call: Any) -> AsyncGenerator[event_pb2.Event, None]:
    """Yield a stream's events, which is cancelled with it."""
    try:
        while (response := await call.read()) is not _END:
            yield response.event
    except grpc.aio.AioRpcError as error:
        raise Failure.from_rpc_error(error, _SERVICE) from None
    finally:
        call.cancel()


def _told(turn: turn_pb2.Turn) -> turn_pb2.Turn:
    """Return the turn, which the call's line in the log and the audit log now name."""
    log_fields(session=turn.session, turn=turn.name, account=turn.account)
    return turn


def _broken_off() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        "The session service ended the stream before the turn was over. Watch the session's events from the "
        "last sequence seen.",
        service=_SERVICE,
    )


def _patience(seconds: float) -> Patience[Failure]:
    # The service is near: it is there again within a second, or away for longer.
    return Patience(seconds, lambda failure: failure.reason in _PASSING, first_pause=0.05, longest_pause=1.0)


async def _patiently(attempt: Callable[[], Awaitable[Answer]]) -> Answer:
    patience = _patience(_CALL_PATIENCE)
    while True:
        try:
            return await attempt()
        except grpc.aio.AioRpcError as error:
            await patience.wait(Failure.from_rpc_error(error, _SERVICE))
