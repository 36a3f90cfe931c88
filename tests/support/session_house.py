"""One session service with scripted peers, as tests and chaos want it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
from pointsman.session.v1 import (
    account_service_pb2_grpc,
    event_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    template_service_pb2_grpc,
    transcript_service_pb2_grpc,
    turn_pb2,
    turn_service_pb2,
    turn_service_pb2_grpc,
    workspace_service_pb2_grpc,
)
from servicekit.channels import service_channel
from servicekit.drain import Drain
from servicekit.errors import Failure
from servicekit.serving import serving
from servicekit.testing import Keys, passport_metadata, serve, test_keys
from session.app import app
from session.config import SessionConfig
from support.session_models import ScriptedModels
from support.session_runner import ScriptedRunner


class Client:
    """A caller of one tenant, at one replica."""

    def __init__(
        self, channel: grpc.aio.Channel, keys: Keys, tenant: str = "acme", account: str | None = None
    ) -> None:
        self.sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        self.turns = turn_service_pb2_grpc.TurnServiceStub(channel)
        self.workspaces = workspace_service_pb2_grpc.WorkspaceServiceStub(channel)
        self.templates = template_service_pb2_grpc.TemplateServiceStub(channel)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(channel)
        self.transcripts = transcript_service_pb2_grpc.TranscriptServiceStub(channel)
        self._signer = keys.signer("router")
        self._tenant, self._account = tenant, account

    @property
    def metadata(self) -> Any:
        """What the router sends."""
        return passport_metadata(
            self._signer, tenant=self._tenant, account=self._account, scopes={"internal"}
        )

    async def enqueue(self, prompt: str, session: str = "", **fields: Any) -> turn_pb2.Turn:
        """Enqueue a turn and return it."""
        request = turn_service_pb2.EnqueueTurnRequest(prompt=prompt, session=session, **fields)
        return (await self.turns.EnqueueTurn(request, metadata=self.metadata, timeout=60)).turn

    async def create(
        self, account: str = "", request_id: str = "", snapshot: str = "", **session: Any
    ) -> session_service_pb2.Session:
        """Make a session with these fields and return it."""
        request = session_service_pb2.CreateSessionRequest(
            account=account,
            request_id=request_id,
            snapshot=snapshot,
            session=session_service_pb2.Session(**session),
        )
        return (await self.sessions.CreateSession(request, metadata=self.metadata, timeout=60)).session

    async def session(self, name: str) -> session_service_pb2.Session:
        """Return a session."""
        request = session_service_pb2.GetSessionRequest(name=name)
        return (await self.sessions.GetSession(request, metadata=self.metadata, timeout=60)).session

    async def turn(self, name: str) -> turn_pb2.Turn:
        """Return a turn."""
        request = session_service_pb2.GetTurnRequest(name=name)
        return (await self.sessions.GetTurn(request, metadata=self.metadata, timeout=60)).turn

    async def cancel(self, name: str) -> turn_pb2.Turn:
        """Cancel a turn."""
        request = turn_service_pb2.CancelTurnRequest(name=name)
        return (await self.turns.CancelTurn(request, metadata=self.metadata, timeout=60)).turn

    async def watch(
        self, session: str, after: int = 0, turn: str = "", timeout: float = 60
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
            answer = await self.sessions.ListEvents(request, metadata=self.metadata, timeout=60)
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


class SessionHouse:
    """Session services on one database, and their peers."""

    def __init__(
        self, keys: Keys, config: SessionConfig, runner: ScriptedRunner, models: ScriptedModels
    ) -> None:
        self.keys = keys
        self.config = config
        self.runner = runner
        self.models = models
        self.replicas: list[grpc.aio.Channel] = []
        """A channel to each; it outlives the replica, as a caller's does."""
        self._channels: list[grpc.aio.Channel] = []
        self._stacks: list[AsyncExitStack] = []
        self._runner_stack = AsyncExitStack()
        self.runner_drain = Drain()
        """Started, the runner says that it stops."""

    def client(self, tenant: str = "acme", account: str | None = None, replica: int = 0) -> Client:
        """Return a caller; replica -1 is the last one, which is another than the first if there is one."""
        return Client(self.replicas[replica], self.keys, tenant, account)

    async def start(self) -> None:
        """Start one more replica."""
        stack = AsyncExitStack()
        server = await stack.enter_async_context(app(self.config, Drain()))
        channel = service_channel(server.address, signer=None)
        self.replicas.append(channel)
        self._channels.append(channel)
        self._stacks.append(stack)

    async def stop(self) -> None:
        """Stop all replicas in order, as SIGTERM does."""
        stacks, self._stacks, self.replicas = self._stacks, [], []
        for stack in stacks:
            await stack.aclose()

    @asynccontextmanager
    async def restarted(self) -> AsyncIterator[None]:
        """Stop all replicas and start one again."""
        await self.stop()
        await self.start()
        yield

    async def close(self) -> None:
        """Close what callers opened."""
        for channel in self._channels:
            await channel.close(None)

    async def start_runner(self, address: str = "127.0.0.1:0") -> str:
        """Serve the runner, and return its address."""
        self._runner_stack, self.runner_drain = AsyncExitStack(), Drain()
        server = await self._runner_stack.enter_async_context(
            serving(
                service="runner",
                address=address,
                servicers=[self.runner.as_servicer()],
                verifier=self.keys.verifier,
                drain=self.runner_drain,
                grace=0.0,
            )
        )
        return server.address

    async def stop_runner(self) -> None:
        """Cut all connections to the runner; its turns go on."""
        await self._runner_stack.aclose()

    async def restart_runner(self) -> None:
        """Cut all connections to the runner, and serve it again where it was."""
        await self.stop_runner()
        await self.start_runner(self.config.runner_address)


@asynccontextmanager
async def session_house(
    tmp_path: Path, database_url: str = "", replicas: int = 1, **config: Any
) -> AsyncIterator[SessionHouse]:
    """Run session services on one database, with scripted peers."""
    keys = test_keys(tmp_path)
    settings: dict[str, Any] = {
        "address": "127.0.0.1:0",
        "passport_keys": keys.jwks,
        "passport_key": keys.directory,
        "data_dir": tmp_path / "data",
        "database_url": database_url,
        **config,
    }
    house = SessionHouse(keys, SessionConfig(**settings), ScriptedRunner(), ScriptedModels())
    async with serve(house.models.as_servicer(), keys=keys, service="llm-proxy", grace=0.0) as models:
        peers: dict[str, Any] = {
            "runner_address": await house.start_runner(),
            "llm_proxy_address": models.server.address,
        }
        house.config = SessionConfig(**settings, **peers)
        for _ in range(replicas):
            await house.start()
        try:
            yield house
        finally:
            await house.stop()
            await house.stop_runner()
            await house.close()


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    """Return what the service said."""
    return Failure.from_rpc_error(error, "session")
