"""A booted sandbox with its agent and its relay: made together, ended together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from claude_agent_sdk import SessionStore
from pointsman.session.v1 import event_pb2

from runner.agent.agent import Agent
from runner.agent.agent_options import (
    PROMPT_FILE,
    BootOptions,
    PermissionModeName,
    command_line,
    environment,
    prompt_file,
    sdk_options,
)
from runner.agent.kept_files import linking
from runner.agent.seed import Transcript, write_seed
from runner.agent.transcript import TranscriptSlot, TranscriptStore
from runner.egress.egress import PROXY_VARIABLES, SCRIPT_NAME, EgressProxy
from runner.egress.egress_lookup import Lookups
from runner.egress.egress_rules import EgressList
from runner.lifecycle.boots import Boots
from runner.lifecycle.shared import NOTHING, Shown
from runner.names import SessionRef
from runner.relay.relay import Relay
from runner.sandboxes.protocol import AGENT_DIR, SEED_NAME, SHARED, Limits, SandboxEngine, SandboxSpec
from runner.sandboxes.root import own_all
from runner.workspace.set_id import strip_set_id
from runner.workspace.usage import DiskUse

# Copies the transcript into the home, which is a tmpfs that only the sandbox itself can write.
_SEED: Final = f'mkdir -p "$CLAUDE_CONFIG_DIR"; cp -r {AGENT_DIR}/{SEED_NAME}/. "$CLAUDE_CONFIG_DIR/"'
_OPEN_DOOR: Final = f"python3 {AGENT_DIR}/{SCRIPT_NAME} </dev/null >/dev/null 2>&1 & true"


@dataclass(frozen=True)
class Boot:
    """What an agent is booted with. Two wishes with the same boot can share a booted one."""

    options: BootOptions
    model: str
    egress: tuple[str, ...] = ()
    """Hosts that it may reach."""


@dataclass
class Sandbox:
    """A sandbox that is alive. `session` is None while it waits in the pool."""

    sandbox_id: str
    session: SessionRef | None
    boot: Boot
    workspace: Path
    folder: Path
    agent: Agent
    relay: Relay
    egress: EgressProxy
    transcript: TranscriptSlot
    disk: DiskUse
    shared: frozenset[tuple[str, int, int]]
    """What is at /shared, see `Shown.identity`."""
    state: event_pb2.SandboxState.ValueType
    create_time: datetime
    last_used: float
    running_turn: str = ""

    @property
    def idle(self) -> bool:
        """Whether it waits for a turn, frozen or not."""
        return self.state in (event_pb2.SANDBOX_STATE_IDLE, event_pb2.SANDBOX_STATE_PAUSED)

    def fits(self, boot: Boot, shown: Shown) -> bool:
        """Return whether a turn can run in it. A running agent changes its model itself."""
        return (
            self.boot.options == boot.options
            and self.boot.egress == boot.egress
            and self.shared == shown.identity
        )

    def adopt(self, session: SessionRef, workspace: Path) -> None:
        """Take note that it is a session's now. Its workspace lies elsewhere, and is the same folder."""
        self.session = session
        self.egress.session = session.name
        self.workspace = workspace
        self.disk = DiskUse(workspace, self.agent.process.processes)

    async def pause(self) -> None:
        """Freeze it."""
        await self.agent.process.pause()
        self.state = event_pb2.SANDBOX_STATE_PAUSED

    async def wake(self) -> None:
        """Let it go on, if it was frozen."""
        if self.state == event_pb2.SANDBOX_STATE_PAUSED:
            await self.agent.process.resume()
            self.state = event_pb2.SANDBOX_STATE_IDLE

    async def end(self) -> None:
        """End it and remove all of it but the workspace."""
        try:
            # So that it can take its leave. One that stays frozen is killed as it is.
            with contextlib.suppress(OSError):
                await self.wake()
            await self.agent.close()
        finally:
            await self.relay.close()
            await self.egress.close()
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
            await strip_set_id(self.workspace)


class SandboxMaker:
    """Boots sandboxes. `folder` is where each gets a folder of its own."""

    def __init__(
        self,
        *,
        engine: SandboxEngine,
        folder: Path,
        limits: Limits,
        upstream: str,
        mcp_servers: dict[str, Any],
        egress: EgressList,
    ) -> None:
        self.engine = engine
        self._folder = folder
        self.limits = limits
        self._upstream = upstream
        self._mcp_servers = mcp_servers
        self.egress = egress
        self._lookups = Lookups()
        self._boots = Boots()

    async def boot(
        self,
        *,
        session: SessionRef | None,
        workspace: Path,
        boot: Boot,
        mode: PermissionModeName,
        store: TranscriptStore | None,
        transcript: Transcript,
        shown: Shown = NOTHING,
    ) -> Sandbox:
        """Boot an agent on a workspace, with a transcript to resume from or none, when it is its turn.

        Without a session it is for the pool: it boots when no other waits, and its transcript is bound later.

        Raises Failure SANDBOX_START_FAILED. Nothing is left behind when it fails or is cancelled.
        """
        sandbox_id = uuid.uuid4().hex
        slot, disk = TranscriptSlot(store), DiskUse(workspace)
        folder = self._folder / sandbox_id
        spec = SandboxSpec(sandbox_id, workspace, folder, self.limits, shown.descriptors)
        owner = os.stat(workspace).st_uid  # noqa: PTH116
        relay = Relay(spec.agent_dir, owner, self._upstream)
        egress = EgressProxy(spec.agent_dir, owner, self.egress, boot.egress, self._lookups)
        egress.session = session.name if session else ""
        try:
            agent_id = session.session_id if session else str(uuid.uuid4())
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(_furnish, spec.agent_dir, agent_id, transcript))
                if session is not None:
                    group.create_task(strip_set_id(workspace))
            await relay.open()
            await egress.open()
            disk.measure_soon()
            async with self._boots.slot(spare=session is None):
                agent = await self._start_agent(
                    spec, boot, mode, slot, agent_id, resume=bool(transcript.lines)
                )
            disk.processes = agent.process.processes
        except BaseException:
            await relay.close()
            await egress.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Sandbox(
            sandbox_id=sandbox_id,
            session=session,
            boot=boot,
            workspace=workspace,
            folder=folder,
            agent=agent,
            relay=relay,
            egress=egress,
            transcript=slot,
            disk=disk,
            shared=shown.identity,
            state=event_pb2.SANDBOX_STATE_IDLE,
            create_time=datetime.now(UTC),
            last_used=time.monotonic(),
        )

    async def _start_agent(
        self,
        spec: SandboxSpec,
        boot: Boot,
        mode: PermissionModeName,
        slot: TranscriptSlot,
        agent_id: str,
        *,
        resume: bool,
    ) -> Agent:
        variables = {**environment(boot.model), **(PROXY_VARIABLES if boot.egress else {})}
        options = replace(
            sdk_options(boot.options, mode=mode, mcp_servers=self._mcp_servers),
            session_store=cast(SessionStore, slot),
            # Where the transcript lies inside; the SDK tells by it which line belongs to which.
            env={"CLAUDE_CONFIG_DIR": variables["CLAUDE_CONFIG_DIR"]},
        )
        if spec.shared:
            # As little to ask about as what lies in the workspace.
            options.allowed_tools.append(f"Read(/{SHARED}/**)")
        await asyncio.to_thread(_complete, spec, prompt_file(options))
        command = command_line(options, boot.model, session_id=agent_id, resume=resume)
        before = [_SEED] * resume + [linking(agent_id)] + [_OPEN_DOOR] * bool(boot.egress)
        command = ["sh", "-c", "; ".join([*before, 'exec "$@"']), "sh", *command]
        process = await self.engine.launch(spec, command, variables)
        return await Agent.start(process, options, boot.model)


def _complete(spec: SandboxSpec, prompt: str) -> None:
    """Write what its agent is started with, and let its user, and nobody else, read all of it."""
    if prompt:
        (spec.agent_dir / Path(PROMPT_FILE).name).write_text(prompt)
    own_all(spec.agent_dir, spec.workspace.stat().st_uid)


def _furnish(agent_dir: Path, agent_id: str, transcript: Transcript) -> None:
    agent_dir.mkdir(parents=True)
    write_seed(agent_dir / SEED_NAME, agent_id, transcript)
