"""The client for asyncio."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc.aio
from pointsman.llm.v1 import model_service_pb2_grpc
from pointsman.router.v1 import (
    audit_service_pb2_grpc,
    key_service_pb2_grpc,
    router_service_pb2,
    router_service_pb2_grpc,
)
from pointsman.session.v1 import (
    account_service_pb2_grpc,
    event_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    template_service_pb2_grpc,
    turn_pb2,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)
from pointsman.system.v1 import system_service_pb2_grpc

from pointsman_client.connection import open_channel
from pointsman_client.deltas import Deltas
from pointsman_client.errors import PointsmanError, TurnFailed, Unavailable, from_rpc_error
from pointsman_client.patience import Patience, passes

Answer = TypeVar("Answer")

_CALL_SECONDS: Final = 30.0
# A refusal may come as the end of a stream, at once.
_HEARD_SECONDS: Final = 1.0
# The installation sends `keep_alive` after 5 quiet seconds; a stream that is silent for this long is broken.
_SILENCE_SECONDS: Final = 12.0
PATIENCE_SECONDS: Final = 60.0


class AsyncClient:
    """Calls an installation's edge, such as `http://localhost:8080`, with an API key or a JWT.

    The stubs of the contract's services are there under their names, with the key in place: `router`,
    `sessions`, `workspace`, `templates`, `accounts`, `models`, `keys`, `audit`, `system`. The methods are for
    what takes more than one call.
    """

    def __init__(self, url: str, key: str = "") -> None:
        channel = open_channel(url, key)
        self._channel = channel
        self.router = router_service_pb2_grpc.RouterServiceStub(channel)
        self.sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        self.workspace = workspace_service_pb2_grpc.WorkspaceServiceStub(channel)
        self.templates = template_service_pb2_grpc.TemplateServiceStub(channel)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.keys = key_service_pb2_grpc.KeyServiceStub(channel)
        self.audit = audit_service_pb2_grpc.AuditServiceStub(channel)
        self.system = system_service_pb2_grpc.SystemServiceStub(channel)

    async def __aenter__(self) -> Self:
        """Open it; nothing is sent yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self._channel.close(None)

    async def create_session(
        self,
        account: str = "",
        *,
        template: str = "",
        snapshot: str = "",
        session: session_service_pb2.Session | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> session_service_pb2.Session:
        """Make a session and return it; tried again for `patience` seconds, and yet made once.

        `template` is `templates/{id}`, `snapshot` is `sessions/{uuid}/snapshots/{uuid}`: what its workspace
        begins with. `session` has what else it is to have, such as `shared_folders`.
        """
        request = session_service_pb2.CreateSessionRequest(
            account=account, request_id=str(uuid.uuid4()), session=session, snapshot=snapshot
        )
        if template:
            request.session.template = template
        answer = await _patiently(
            lambda: self.sessions.CreateSession(request, timeout=_CALL_SECONDS), patience, _still_being_made
        )
        return answer.session

    async def start_turn(
        self, request: router_service_pb2.StartTurnRequest, *, patience: float = PATIENCE_SECONDS
    ) -> turn_pb2.Turn:
        """Queue a turn and return it; tried again for `patience` seconds, and yet queued once.

        Without a `request_id` it gets one, so a second attempt finds the first one's turn.
        """
        once = router_service_pb2.StartTurnRequest()
        once.CopyFrom(request)
        once.request_id = request.request_id or str(uuid.uuid4())
        answer = await _patiently(lambda: self.router.StartTurn(once, timeout=_CALL_SECONDS), patience)
        return answer.turn

    async def run_turn(
        self,
        prompt: str,
        *,
        session: str = "",
        account: str = "",
        model: str = "",
        options: turn_pb2.TurnOptions | None = None,
        route: turn_pb2.TurnRoute.ValueType = turn_pb2.TURN_ROUTE_UNSPECIFIED,
        request_id: str = "",
        patience: float = PATIENCE_SECONDS,
    ) -> AsyncGenerator[event_pb2.Event, None]:
        """Run a prompt and yield its turn's events, each once and in order; the last is `turn_finished`.

        A connection that breaks is taken up again where it broke, for as long as nobody answered for
        `patience` seconds. A turn that fails is no exception: its last event says so.
        """
        request = router_service_pb2.StartTurnRequest(
            prompt=prompt,
            session=session,
            account=account,
            model=model,
            options=options,
            route=route,
            request_id=request_id,
        )
        turn = await self.start_turn(request, patience=patience)
        async with aclosing(self.follow_turn(turn, patience=patience)) as events:
            async for event in events:
                yield event

    async def follow_turn(
        self, turn: turn_pb2.Turn, *, after_sequence: int | None = None, patience: float = PATIENCE_SECONDS
    ) -> AsyncGenerator[event_pb2.Event, None]:
        """Yield a turn's events from its first, or after a sequence number, to `turn_finished`."""
        cursor = max(turn.first_sequence - 1, 0) if after_sequence is None else after_sequence
        deltas, waiting = Deltas(), Patience(patience, passes)
        while True:
            request = session_service_pb2.WatchEventsRequest(
                session=turn.session, turn=turn.name, after_sequence=cursor
            )
            call, heard = self.sessions.WatchEvents(request), math.inf
            try:
                await call.wait_for_connection()
                heard = time.monotonic()
                async for response in _unless_silent(call):
                    event = response.event
                    waiting.contact()
                    cursor = max(cursor, event.sequence)
                    if not deltas.fresh(event) or event.HasField("keep_alive"):
                        continue
                    yield event
                    if event.HasField("turn_finished"):
                        return
                broken: PointsmanError = Unavailable(
                    "The stream ended before the turn did.",
                    reason="SERVICE_UNAVAILABLE",
                    code=grpc.StatusCode.UNAVAILABLE,
                )
            except grpc.aio.AioRpcError as error:
                broken = from_rpc_error(error)
            except TimeoutError:
                broken = Unavailable(
                    f"The stream was silent for {_SILENCE_SECONDS:g} seconds.",
                    reason="SERVICE_UNAVAILABLE",
                    code=grpc.StatusCode.UNAVAILABLE,
                )
            finally:
                call.cancel()
            if time.monotonic() - heard > _HEARD_SECONDS:
                # The installation was there; a turn that waits only had nothing to tell.
                waiting.contact()
            await waiting.wait(broken)

    async def ask(self, prompt: str, **fields: object) -> str:
        """Run a prompt and return the answer; takes what `run_turn` takes. Raises TurnFailed."""
        async with aclosing(self.run_turn(prompt, **fields)) as events:  # type: ignore[arg-type]
            async for event in events:
                if event.HasField("turn_finished"):
                    if event.turn_finished.outcome != turn_pb2.TURN_STATE_SUCCEEDED:
                        raise TurnFailed(event.turn, event.turn_finished)
                    return event.turn_finished.result
        raise AssertionError("run_turn ends with turn_finished, or raises")

    async def read_file(self, session: str, path: str) -> bytes:
        """Return a file of a session's workspace."""
        request = workspace_service_pb2.ReadFileRequest(session=session, path=path)
        try:
            call = self.workspace.ReadFile(request, timeout=_CALL_SECONDS)
            return b"".join([piece.data async for piece in call])
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def list_sessions(self, account: str = "") -> AsyncIterator[session_service_pb2.Session]:
        """Yield sessions, the one with the newest activity first."""
        token = ""
        while True:
            request = session_service_pb2.ListSessionsRequest(account=account, page_token=token)
            page = await self.call(self.sessions.ListSessions(request, timeout=_CALL_SECONDS))
            for session in page.sessions:
                yield session
            token = page.next_page_token
            if not token:
                return

    @staticmethod
    async def call(call: Awaitable[Answer]) -> Answer:
        """Await a stub's unary call, with our exceptions in place of gRPC's."""
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None


async def _unless_silent(call: AsyncIterable[Answer]) -> AsyncIterator[Answer]:
    """Yield a stream's messages. Raises TimeoutError when none comes for `_SILENCE_SECONDS`."""
    messages = aiter(call)
    while True:
        async with asyncio.timeout(_SILENCE_SECONDS):
            message = await anext(messages, None)
        if message is None:
            return
        yield message


async def _patiently(
    attempt: Callable[[], Awaitable[Answer]],
    patience: float,
    also: Callable[[PointsmanError], bool] = lambda _: False,
) -> Answer:
    """Make a call that its request id makes harmless to repeat, again and again while that may help.

    `also` says of further errors than the usual ones that it may.
    """

    def passing(error: PointsmanError) -> bool:
        # What took too long may be done by now, and the next attempt then finds it.
        return passes(error) or error.code is grpc.StatusCode.DEADLINE_EXCEEDED or also(error)

    waiting = Patience(patience, passing)
    while True:
        try:
            return await attempt()
        except grpc.aio.AioRpcError as error:
            await waiting.wait(from_rpc_error(error))


def _still_being_made(error: PointsmanError) -> bool:
    """Say whether an attempt whose connection broke still works on the session."""
    return error.reason == "SESSION_BUSY"
