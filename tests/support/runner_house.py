"""A runner on a real socket, with real sandboxes, before a scripted model."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.runner.v1 import runner_service_pb2_grpc as rpc
from pointsman.session.v1 import event_pb2, turn_pb2
from pointsman.session.v1 import workspace_service_pb2 as ws
from runner.app import app
from runner.config import RunnerConfig
from servicekit.testing import Keys, Started, passport_metadata, serve, started
from support.runner_peers import TokenPeer, TranscriptPeer
from support.scripted_anthropic import Script, ScriptedAnthropic, scripted_anthropic

MODEL = "test/model"


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass
class TurnResult:
    """All that a turn said."""

    items: list[pb.RunTurnResponse] = field(default_factory=list)

    @property
    def events(self) -> list[event_pb2.Event]:
        return [item.event for item in self.items]

    @property
    def kinds(self) -> list[str]:
        return [str(event.WhichOneof("kind")) for event in self.events]

    @property
    def finished(self) -> turn_pb2.TurnFinished:
        return self.events[-1].turn_finished

    def of(self, kind: str) -> list[Any]:
        return [getattr(event, kind) for event in self.events if event.WhichOneof("kind") == kind]


@dataclass
class RunnerHouse:
    """A runner with what is around it."""

    keys: Keys
    model: ScriptedAnthropic
    tokens: TokenPeer
    transcripts: TranscriptPeer
    running: Started
    data_dir: Path

    def stub(self) -> rpc.RunnerServiceAsyncStub:
        return rpc.RunnerServiceStub(self.running.channel)

    def metadata(self, tenant: str = "acme") -> Any:
        return passport_metadata(self.keys.signer("session"), tenant=tenant, scopes={"internal"})

    def request(self, session: str, prompt: str, **fields: Any) -> pb.RunTurnRequest:
        options = fields.pop("options", turn_pb2.TurnOptions())
        turn = fields.pop("turn", new_id())
        values = {"account": "default", "epoch": 1, "model": MODEL, **fields}
        return pb.RunTurnRequest(
            turn=f"sessions/{session}/turns/{turn}", prompt=prompt, options=options, **values
        )

    def follow(self, request: pb.RunTurnRequest, tenant: str = "acme", timeout: float = 60) -> Any:
        return self.stub().RunTurn(request, metadata=self.metadata(tenant), timeout=timeout)

    async def run(
        self, session: str, prompt: str, tenant: str = "acme", timeout: float = 60, **fields: Any
    ) -> TurnResult:
        result = TurnResult()
        async for item in self.follow(self.request(session, prompt, **fields), tenant, timeout):
            result.items.append(item)
        return result

    async def read(self, session: str, path: str, tenant: str = "acme") -> bytes:
        asked = ws.ReadFileRequest(session=f"sessions/{session}", path=path)
        call = self.stub().ReadFile(
            pb.ReadFileRequest(request=asked), metadata=self.metadata(tenant), timeout=60
        )
        return b"".join([piece.response.data async for piece in call])

    async def list(
        self, session: str, path: str = "", tenant: str = "acme", **fields: Any
    ) -> list[ws.FileInfo]:
        asked = ws.ListFilesRequest(session=f"sessions/{session}", path=path, **fields)
        answer = await self.stub().ListFiles(
            pb.ListFilesRequest(request=asked), metadata=self.metadata(tenant), timeout=60
        )
        return list(answer.response.files)

    async def write(self, session: str, path: str, data: bytes, tenant: str = "acme") -> None:
        asked = ws.WriteFileRequest(session=f"sessions/{session}", path=path, data=data)
        await self.stub().WriteFile(
            pb.WriteFileRequest(request=asked), metadata=self.metadata(tenant), timeout=60
        )


@asynccontextmanager
async def runner_house(
    keys: Keys, folder: Path, script: Script = (), **config: Any
) -> AsyncIterator[RunnerHouse]:
    """Run a runner on `folder`; keyword arguments are its configuration."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(scripted_anthropic(script))
        tokens, transcripts = TokenPeer(), TranscriptPeer()
        llm_proxy = await stack.enter_async_context(serve(tokens.servicer(), keys=keys, service="llm-proxy"))
        session = await stack.enter_async_context(serve(transcripts.servicer(), keys=keys, service="session"))
        values: dict[str, Any] = {
            "address": "127.0.0.1:0",
            "passport_keys": keys.jwks,
            "passport_key": keys.directory,
            "data_dir": folder,
            "llm_proxy_address": llm_proxy.server.address,
            "llm_proxy_http_address": model.url.removeprefix("http://"),
            "session_address": session.server.address,
            "max_instances": 4,
            "pool_size": 0,
            **config,
        }
        running = await stack.enter_async_context(started(app, RunnerConfig(**values)))
        yield RunnerHouse(keys, model, tokens, transcripts, running, folder)
