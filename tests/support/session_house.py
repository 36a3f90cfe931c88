"""One session service with scripted peers, as tests and chaos want it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
from pointsman.session.v1 import (
    event_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    transcript_service_pb2_grpc,
    turn_pb2,
    turn_service_pb2,
    turn_service_pb2_grpc,
    workspace_service_pb2_grpc,
)
from servicekit.errors import Failure
from servicekit.testing import Keys, Started, passport_metadata, serve, started, test_keys
from session.app import app
from session.config import SessionConfig
from support.session_peers import ScriptedModels, ScriptedRunner


class Client:
    """A caller of one tenant, at one replica."""

    def __init__(
        self, channel: grpc.aio.Channel, keys: Keys, tenant: str = "acme", account: str | None = None
    ) -> None:
        self.sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        self.turns = turn_service_pb2_grpc.TurnServiceStub(channel)
        self.workspaces = workspace_service_pb2_grpc.WorkspaceServiceStub(channel)
        self.transcripts = transcript_service_pb2_grpc.TranscriptServiceStub(channel)
        self._signer = keys.signer("router")
        self._tenant, self._account = tenant, account
        self.public: Any = None

    @property
    def metadata(self) -> Any:
        """What the router sends."""
        return passport_metadata(
            self._signer, tenant=self._tenant, account=self._account, scopes={"internal"}
        )

    async def enqueue(self, prompt: str, session: str = "", **fields: Any) -> turn_pb2.Turn:
        """Enqueue a turn and return it."""
        request = turn_service_pb2.EnqueueTurnRequest(prompt=prompt, session=session, **fields)
        return (await self.turns.EnqueueTurn(request, metadata=self.metadata, timeout=10)).turn

    async def session(self, name: str) -> session_service_pb2.Session:
        """Return a session."""
        request = session_service_pb2.GetSessionRequest(name=name)
        return (await self.sessions.GetSession(request, metadata=self.metadata, timeout=10)).session

    async def turn(self, name: str) -> turn_pb2.Turn:
        """Return a turn."""
        request = session_service_pb2.GetTurnRequest(name=name)
        return (await self.sessions.GetTurn(request, metadata=self.metadata, timeout=10)).turn

    async def cancel(self, name: str) -> turn_pb2.Turn:
        """Cancel a turn."""
        request = turn_service_pb2.CancelTurnRequest(name=name)
        return (await self.turns.CancelTurn(request, metadata=self.metadata, timeout=10)).turn

    async def watch(
        self, session: str, after: int = 0, turn: str = "", timeout: float = 20
    ) -> AsyncIterator[event_pb2.Event]:
        """Yield events as they come."""
        request = session_service_pb2.WatchEventsRequest(session=session, after_sequence=after, turn=turn)
        call = self.sessions.WatchEvents(request, metadata=self.metadata, timeout=timeout)
        try:
            async for answer in call:
                yield answer.event
        finally:
            call.cancel()

    async def events(self, session: str, after: int = 0) -> list[event_pb2.Event]:
        """Return all events of the log."""
        found: list[event_pb2.Event] = []
        token = ""
        while True:
            request = session_service_pb2.ListEventsRequest(
                session=session, after_sequence=after, page_token=token
            )
            answer = await self.sessions.ListEvents(request, metadata=self.metadata, timeout=10)
            found += answer.events
            token = answer.next_page_token
            if not token:
                return found

    async def finish(self, turn: turn_pb2.Turn) -> turn_pb2.TurnFinished:
        """Return how a turn ended, when it has."""
        async for event in self.watch(turn.session, turn=turn.name):
            if event.HasField("turn_finished"):
                return event.turn_finished
        return (await self.turn(turn.name)).result


@dataclass
class SessionHouse:
    """A session service and its peers."""

    keys: Keys
    runner: ScriptedRunner
    models: ScriptedModels
    config: SessionConfig
    replicas: list[Started]

    def client(self, tenant: str = "acme", account: str | None = None, replica: int = 0) -> Client:
        """Return a caller; replica -1 is the last one, which is another than the first if there is one."""
        return Client(self.replicas[replica].channel, self.keys, tenant, account)


@asynccontextmanager
async def session_house(
    tmp_path: Path, database_url: str = "", replicas: int = 1, **config: Any
) -> AsyncIterator[SessionHouse]:
    """Run session services on one database, with scripted peers."""
    keys = test_keys(tmp_path)
    runner, models = ScriptedRunner(), ScriptedModels()
    async with (
        serve(runner.as_servicer(), keys=keys, service="runner", grace=0.2) as runner_server,
        serve(models.as_servicer(), keys=keys, service="llm-proxy", grace=0.2) as models_server,
    ):
        settings = SessionConfig(
            **{
                "address": "127.0.0.1:0",
                "passport_keys": keys.jwks,
                "passport_key": keys.directory,
                "data_dir": tmp_path / "data",
                "runner_address": runner_server.server.address,
                "llm_proxy_address": models_server.server.address,
                "database_url": database_url,
                **config,
            }
        )
        running = SessionHouse(keys, runner, models, settings, [])
        async with _replicas(running, replicas):
            yield running


@asynccontextmanager
async def _replicas(running: SessionHouse, count: int) -> AsyncIterator[None]:
    if count == 0:
        yield
        return
    async with started(app, running.config) as replica:
        running.replicas.append(replica)
        async with _replicas(running, count - 1):
            yield


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    """Return what the service said."""
    return Failure.from_rpc_error(error, "session")
