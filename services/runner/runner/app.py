"""The runner, put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import claude_agent_sdk
from pointsman.llm.v1 import llm_service_pb2_grpc
from pointsman.runner.v1 import runner_service_pb2, runner_service_pb2_grpc
from pointsman.session.v1 import transcript_service_pb2_grpc
from servicekit.channels import service_channel
from servicekit.passport import PassportSigner, PassportVerifier
from servicekit.serving import Drain, RunningServer, Servicer, serving

from runner.config import RunnerConfig
from runner.lifecycle import Lifecycle, Policy
from runner.sandbox import SandboxMaker
from runner.sandboxes.choose import choose_engine
from runner.servicer import RunnerServicer
from runner.tokens import SessionTokens
from runner.turn_runner import TurnRunner
from runner.turns import Turns
from runner.workspace.history import History
from runner.workspace.place import Workspaces
from runner.workspace.snapshots import Snapshots
from runner.workspace.store import WorkspaceStore

CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"


@asynccontextmanager
async def app(config: RunnerConfig, drain: Drain) -> AsyncIterator[RunningServer]:
    """Serve until left; on the way out running turns have the server's grace to end, then are broken off."""
    # It logs what it cannot read, and that is the agent's.
    logging.getLogger("claude_agent_sdk").setLevel(logging.CRITICAL)
    signer = PassportSigner.from_directory(config.passport_key, "runner")
    state = config.data_dir.absolute() / "runner"
    engine = await choose_engine(config.sandbox, state, CLI)
    workspaces = Workspaces(state / "workspaces", engine.new_owner)
    async with (
        service_channel(config.llm_proxy_address, signer=None) as llm_proxy,
        service_channel(config.session_address, signer=None) as session,
        # Each sandbox has limits of its own; together they may be many.
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as http,
    ):
        maker = SandboxMaker(
            engine=engine,
            folder=state / "sandboxes",
            limits=config.limits,
            upstream=f"http://{config.llm_proxy_http_address}",
            http=http,
            mcp_servers={},
        )
        lifecycle = Lifecycle(maker, workspaces, _policy(config))
        store = _store(config, state, workspaces)
        turns = Turns()
        tokens = SessionTokens(llm_service_pb2_grpc.LlmServiceStub(llm_proxy))
        transcripts = transcript_service_pb2_grpc.TranscriptServiceStub(session)
        runner = TurnRunner(
            lifecycle=lifecycle,
            turns=turns,
            tokens=tokens,
            transcripts=transcripts,
            store=store,
            signer=signer,
            limits=config.limits,
        )
        tending = asyncio.create_task(lifecycle.tend(), name="lifecycle")
        servicer = Servicer(
            add=runner_service_pb2_grpc.add_RunnerServiceServicer_to_server,
            instance=RunnerServicer(
                turns=turns,
                runner=runner,
                lifecycle=lifecycle,
                store=store,
                drain=drain,
                implementation=engine.name,
            ),
            descriptor=runner_service_pb2.DESCRIPTOR.services_by_name["RunnerService"],
        )
        try:
            async with serving(
                service="runner",
                address=config.address,
                servicers=[servicer],
                verifier=PassportVerifier.from_file(config.passport_keys),
                drain=drain,
            ) as server:
                yield server
        finally:
            tending.cancel()
            await turns.close()
            await lifecycle.close()
            await engine.close()


def _store(config: RunnerConfig, state: Path, workspaces: Workspaces) -> WorkspaceStore:
    limit = config.limits.workspace_bytes
    snapshots = Snapshots(config.snapshot_dir or state / "snapshots", limit)
    return WorkspaceStore(workspaces, History(state / "history"), snapshots, limit)


def _policy(config: RunnerConfig) -> Policy:
    return Policy(
        max_instances=config.max_instances,
        pause_after=config.pause_after.total_seconds(),
        sleep_after=config.sleep_after.total_seconds(),
        wait=config.sandbox_wait.total_seconds(),
    )
