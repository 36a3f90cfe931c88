"""The runner, put together."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import claude_agent_sdk
import structlog
from pointsman.llm.v1 import llm_service_pb2_grpc
from pointsman.runner.v1 import runner_service_pb2, runner_service_pb2_grpc
from pointsman.session.v1 import transcript_service_pb2_grpc, turn_pb2
from servicekit.background import background
from servicekit.channels import internal_metadata, service_channel
from servicekit.config import ConfigError
from servicekit.diagnostics import diagnostics
from servicekit.exclusive import exclusive
from servicekit.passport import PassportSigner, PassportVerifier
from servicekit.serving import Drain, RunningServer, Servicer, serving

from runner.agent.agent_options import BootOptions
from runner.config import RunnerConfig
from runner.egress.egress_rules import EgressList
from runner.lifecycle.lifecycle import Lifecycle, Policy
from runner.lifecycle.sandbox import Boot, SandboxMaker
from runner.metrics import SandboxStates
from runner.relay.tokens import SessionTokens, default_model
from runner.sandboxes.choose import choose_engine
from runner.servicer import RunnerServicer
from runner.turns.journal import Journal
from runner.turns.turn_runner import TurnRunner
from runner.turns.turns import Turns
from runner.workspace.history import History
from runner.workspace.place import Workspaces
from runner.workspace.snapshots import Snapshots
from runner.workspace.store import WorkspaceStore

_log = structlog.get_logger("runner")

# From the request to stop to the end of all calls. Running turns have most of it; the rest is for telling
# their followers how those ended that did not come to an end by then.
_GRACE_SECONDS: Final = 10.0
_TURNS_SHARE: Final = 0.8
CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"


@asynccontextmanager
async def app(config: RunnerConfig, drain: Drain) -> AsyncIterator[RunningServer]:
    """Serve until left; on the way out running turns have eight seconds to end, then are broken off."""
    # It logs what it cannot read, and that is the agent's.
    logging.getLogger("claude_agent_sdk").setLevel(logging.CRITICAL)
    signer = PassportSigner.from_directory(config.passport_key, "runner")
    state = config.data_dir.absolute() / "runner"
    with _only_runner(state):
        async with _serving(config, drain, state, signer) as server:
            yield server


def _only_runner(state: Path) -> AbstractContextManager[None]:
    """Hold the runner's folder: each of two runners would remove the other's sandboxes and workspaces."""
    return exclusive(
        state / "lock",
        f"POINTSMAN_DATA_DIR: {state} is in use by another runner; an installation has one runner. Stop "
        "that one, or set POINTSMAN_DATA_DIR to another directory for another installation",
    )


@asynccontextmanager
async def _serving(
    config: RunnerConfig, drain: Drain, state: Path, signer: PassportSigner
) -> AsyncIterator[RunningServer]:
    engine = await choose_engine(config, state, CLI)
    workspaces = Workspaces(state / "workspaces", engine.new_owner)
    await _clear_leftovers(state, workspaces)
    async with (
        service_channel(config.llm_proxy_address, signer=None) as llm_proxy,
        service_channel(config.session_address, signer=None) as session,
    ):
        maker = SandboxMaker(
            engine=engine,
            folder=state / "sandboxes",
            limits=config.limits,
            upstream=f"http://{config.llm_proxy_http_address}",
            mcp_servers=_mcp_servers(config),
            egress=EgressList.parse(config.egress_allow),
        )
        lifecycle = Lifecycle(maker, workspaces, _policy(config))
        store = _store(config, state, workspaces)
        await store.clear_left_over()
        _say_limits(config)
        turns = Turns(Journal(state / "turns", workspaces.sync))
        llm = llm_service_pb2_grpc.LlmServiceStub(llm_proxy)
        tokens = SessionTokens(llm)
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
            async with (
                background(lifecycle.tend()),
                background(lifecycle.keep_pool()),
                background(lifecycle.learn_default(lambda: _default_boot(llm, signer))),
                serving(
                    service="runner",
                    address=config.address,
                    servicers=[servicer, diagnostics("runner", config)],
                    verifier=PassportVerifier.from_file(config.passport_keys),
                    drain=drain,
                    grace=_GRACE_SECONDS,
                    settle=lambda: turns.settle(_GRACE_SECONDS * _TURNS_SHARE),
                ) as server,
            ):
                with SandboxStates(lifecycle.sandboxes):
                    yield server
        finally:
            await turns.close()
            await runner.close()
            await lifecycle.close()
            store.close()
            await engine.close()


async def _clear_leftovers(state: Path, workspaces: Workspaces) -> None:
    """Remove what a runner that was killed had no time to."""
    await asyncio.to_thread(shutil.rmtree, state / "sandboxes", ignore_errors=True)
    await workspaces.clear_unclaimed()


async def _default_boot(llm: llm_service_pb2_grpc.LlmServiceAsyncStub, signer: PassportSigner) -> Boot:
    """Return what a session is booted with that says nothing of its own."""
    metadata = internal_metadata(
        signer, tenant="pointsman", account=None, principal="runner", request_id="pool"
    )
    return Boot(BootOptions.of(turn_pb2.TurnOptions()), await default_model(llm, metadata))


def _mcp_servers(config: RunnerConfig) -> dict[str, Any]:
    """Read the MCP servers that turns may name. They run inside the sandbox, as all of the agent's."""
    if config.mcp_config is None:
        return {}
    try:
        return dict(json.loads(config.mcp_config.read_text())["mcpServers"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"POINTSMAN_MCP_CONFIG: {config.mcp_config} is not readable as one: {error!r}"
        ) from error


def _say_limits(config: RunnerConfig) -> None:
    """Say how the limits of workspaces are kept, see ADR 28."""
    limits = config.limits
    seen = "all files without a name" if os.geteuid() == 0 else "files without a name, unless a process hides"
    _log.info(
        "workspace_limits",
        kept_by="measuring",
        sees=seen,
        bytes=limits.workspace_bytes,
        entries=limits.workspace_entries,
    )


def _store(config: RunnerConfig, state: Path, workspaces: Workspaces) -> WorkspaceStore:
    snapshots = Snapshots(config.snapshot_dir or state / "snapshots", config.limits)
    return WorkspaceStore(workspaces, History(state / "history"), snapshots, config.limits)


def _policy(config: RunnerConfig) -> Policy:
    return Policy(
        max_instances=config.max_instances,
        pause_after=config.pause_after.total_seconds(),
        sleep_after=config.sleep_after.total_seconds(),
        wait=config.sandbox_wait.total_seconds(),
        pool_size=config.pool_size,
        pool_templates=config.pool_templates,
    )
