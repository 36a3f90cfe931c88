"""Runs a turn: a sandbox for it, a token for its model calls, the prompt, and whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog
from pointsman.session.v1 import event_pb2, transcript_service_pb2_grpc, turn_pb2
from servicekit.channels import CallMetadata, internal_metadata
from servicekit.errors import Failure
from servicekit.passport import PassportSigner

from runner.agent.agent_options import BootOptions, permission_mode
from runner.agent.file_change import Edits
from runner.agent.outcome import Outcome, cancelled, outcome_of, output_limit, timed_out
from runner.agent.transcript import TranscriptStore
from runner.lifecycle.lifecycle import Claim, Lifecycle, Wish
from runner.lifecycle.sandbox import Boot, Sandbox
from runner.lifecycle.settings import Settings
from runner.lifecycle.watch import breach, disk_breach_at_end, watch
from runner.metrics import claimed
from runner.names import SessionRef
from runner.relay.grant import Grant
from runner.relay.tokens import TOKEN_TTL, SessionTokens
from runner.sandboxes.protocol import Limits
from runner.turns.conversation import Conversation
from runner.turns.mcp_report import McpReport
from runner.turns.turns import Turn, Turns
from runner.workspace.store import WorkspaceStore

_DEFAULT_TIMEOUT: Final = timedelta(hours=1)
# A turn that changes more is told by DiffWorkspace.
_TOLD_CHANGES: Final = 200
# From the request to stop to the end of the turn: a second in all, the interrupt's own time included.
_STOP_SECONDS: Final = 0.8

_SOURCES: Final = {
    event_pb2.SANDBOX_STATE_IDLE: "warm",
    event_pb2.SANDBOX_STATE_RESUMED: "resumed",
    event_pb2.SANDBOX_STATE_READY: "boot",
}

_log = structlog.get_logger("runner.turns")


@dataclass(frozen=True)
class Caller:
    """On whose behalf a turn runs; for the passports of calls that it makes."""

    tenant: str
    account: str
    principal: str
    request_id: str


@dataclass(frozen=True)
class TurnWork:
    """What a turn has to do."""

    caller: Caller
    prompt: str
    model: str
    options: turn_pb2.TurnOptions
    settings: Settings

    @property
    def boot(self) -> Boot:
        """What its agent is booted with."""
        return Boot(BootOptions.of(self.options), self.model, self.settings.egress)

    @property
    def timeout(self) -> float:
        """Seconds it may run."""
        set_to = self.options.timeout.ToTimedelta() if self.options.HasField("timeout") else _DEFAULT_TIMEOUT
        return set_to.total_seconds()


class TurnRunner:
    """Runs turns in the sandboxes of one lifecycle."""

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        turns: Turns,
        tokens: SessionTokens,
        transcripts: transcript_service_pb2_grpc.TranscriptServiceAsyncStub,
        store: WorkspaceStore,
        signer: PassportSigner,
        limits: Limits,
    ) -> None:
        self._lifecycle = lifecycle
        self._turns = turns
        self._tokens = tokens
        self._transcripts = transcripts
        self._store = store
        self._signer = signer
        self._limits = limits
        self._revoking: set[asyncio.Task[None]] = set()

    def wish(self, session: SessionRef, work: TurnWork) -> Wish:
        """Return what the work needs of its sandbox."""

        def epoch() -> int:
            running = self._turns.running(session)
            return running.epoch if running else 0

        def metadata() -> CallMetadata:
            return self._metadata(work.caller)

        def not_kept(what: str) -> None:
            if running := self._turns.running(session):
                incomplete = event_pb2.TranscriptIncomplete(message=what)
                running.emit(event_pb2.Event(transcript_incomplete=incomplete))

        store = TranscriptStore(self._transcripts, session.session_id, metadata, epoch, not_kept)
        account = work.caller.account
        return Wish(session, account, work.settings, work.boot, permission_mode(work.options), store)

    async def run(self, turn: Turn, work: TurnWork) -> Outcome:
        """Run a turn to its end, whatever that is. Cancelling the call ends its sandbox."""
        edits = Edits(self._store.places.path(turn.ref.session))
        conversation = Conversation(turn, turn.ref.turn_id, edits)
        task = asyncio.create_task(self._work(turn, work, conversation), name="turn's work")
        stops = [asyncio.create_task(stop.wait()) for stop in (turn.cancelled, turn.overflowed)]
        try:
            await _until(turn, work.timeout, {task, *stops})
            if task.done():
                return task.result()
            await self._break_off(turn, conversation, task)
            if turn.cancelled.is_set():
                return Outcome(failure=cancelled())
            return Outcome(failure=output_limit() if turn.overflowed.is_set() else timed_out(work.timeout))
        finally:
            for each in (task, *stops):
                each.cancel()
            await asyncio.gather(task, *stops, return_exceptions=True)

    async def close(self) -> None:
        """Wait until the tokens of turns that are over are taken back. Each call has a deadline."""
        await asyncio.gather(*self._revoking, return_exceptions=True)

    async def _break_off(self, turn: Turn, conversation: Conversation, task: asyncio.Task[Outcome]) -> None:
        """Ask the agent to stop. One that does not, at once, loses its sandbox when the task is cancelled."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                if conversation.interrupt is not None and await conversation.interrupt():
                    await asyncio.wait({task})

    async def _work(self, turn: Turn, work: TurnWork, conversation: Conversation) -> Outcome:
        # An agent that does not tell of messages as they are written leaves nothing to go ahead of.
        partial = work.boot.options.partial_messages
        listen = conversation.ahead.call if partial else None
        grant = Grant(lambda: self._asked_token(turn, work), conversation.note, listen)
        keeper = asyncio.create_task(_renew(grant))
        try:
            claim = await self._lifecycle.claim(
                self.wish(turn.ref.session, work), lambda: _say_state(turn, event_pb2.SANDBOX_STATE_STARTING)
            )
            _say_ready(turn, claim)
            return await self._talk(turn, work, conversation, claim.sandbox, grant)
        finally:
            keeper.cancel()
            grant.close()
            revoke = self._tokens.revoke(turn.ref, metadata=lambda: self._metadata(work.caller))
            task = asyncio.create_task(revoke)
            self._revoking.add(task)
            task.add_done_callback(self._revoking.discard)

    async def _talk(
        self, turn: Turn, work: TurnWork, conversation: Conversation, sandbox: Sandbox, grant: Grant
    ) -> Outcome:
        agent = sandbox.agent
        sandbox.running_turn = turn.ref.name
        sandbox.relay.grant = grant
        agent.listener = conversation
        conversation.interrupt = agent.interrupt
        ended = asyncio.create_task(agent.ended.wait())
        watching = asyncio.create_task(watch(agent, sandbox.disk, self._limits), name="watch")
        try:
            await agent.set_mode(permission_mode(work.options))
            await agent.set_model(work.model)
            await self._store.begin_turn(turn.ref.session, turn.ref.turn_id)
            servers = McpReport(turn, agent, work.options.mcp_servers)
            await servers.look(over=False)
            turn.prompt_goes()
            await agent.query(work.prompt, turn.ref.turn_id)
            # The agent needs it in some 20 ms, and the prompt at once.
            grant.token()
            await _first(conversation.result, ended, watching, grant.over)
            if watching.done():
                # Nothing runs unwatched: if the watch itself failed, so does the turn.
                watching.result()
            if grant.over.done():
                await agent.doom(output_limit(grant.over.result()))
            if grant.over.done() or not conversation.result.done():
                return Outcome(failure=agent.death())
            # What happened since the last look.
            broken = breach(agent, self._limits) or await disk_breach_at_end(sandbox.disk, self._limits)
            if broken is not None:
                await agent.doom(broken)
                return Outcome(failure=broken)
            await servers.look(over=True)
            return outcome_of(
                conversation.result.result(),
                refusal=grant.refusal,
                model=work.model,
                said=conversation.said,
                schema=work.boot.options.output_schema,
            )
        finally:
            ended.cancel()
            watching.cancel()
            agent.listener = None
            sandbox.relay.grant = None
            if not conversation.result.done():
                # It is in the middle of something that nobody waits for any more.
                await agent.close()
            await self._tell_changes(turn, conversation)
            await self._lifecycle.release(sandbox)

    async def _tell_changes(self, turn: Turn, conversation: Conversation) -> None:
        """Tell what commands wrote: only comparing shows it."""
        if not turn.tool_ran:
            return
        try:
            changes = await self._store.end_turn(turn.ref.session, conversation.edits.told)
        except (OSError, Failure) as error:
            _log.warning("workspace_not_compared", turn=turn.ref.name, error=str(error))
            return
        for change in changes[:_TOLD_CHANGES]:
            turn.emit(event_pb2.Event(file_change=change))

    def _asked_token(self, turn: Turn, work: TurnWork) -> asyncio.Task[str]:
        models = {work.model, *(agent.model for agent in work.options.agents.values() if agent.model)}
        budget = work.options.max_budget_usd if work.options.HasField("max_budget_usd") else None
        task = asyncio.create_task(
            self._tokens.issue(
                turn.ref,
                work.caller.account,
                models=sorted(models),
                max_budget_usd=budget,
                metadata=lambda: self._metadata(work.caller),
            )
        )
        # A turn may end without a call to a model, and then nobody asks.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    def _metadata(self, caller: Caller) -> CallMetadata:
        return internal_metadata(
            self._signer,
            tenant=caller.tenant,
            account=caller.account,
            principal=caller.principal,
            request_id=caller.request_id,
        )


async def _renew(grant: Grant) -> None:
    while True:
        await asyncio.sleep(TOKEN_TTL.total_seconds() * 0.8)
        grant.renew()


async def _until(turn: Turn, seconds: float, ends: set[asyncio.Task[Any]]) -> None:
    """Wait for one of the ends or the deadline. The time that people take to decide is not the turn's."""
    left = seconds
    while left > 0:
        waited = turn.approvals.waited
        done, _ = await asyncio.wait(ends, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if done:
            return
        left = turn.approvals.waited - waited


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def prompt_with(prompt: str, direct_turns: Sequence[turn_pb2.Turn]) -> str:
    """Return the prompt, after what was said in direct turns that the agent was not part of."""
    if not direct_turns:
        return prompt
    said = [f"User: {turn.prompt}\n\nAssistant: {turn.result.result}" for turn in direct_turns]
    earlier = "\n\n".join(said)
    return (
        "<earlier>\nSince your last turn this was said in this conversation, answered without you:\n\n"
        f"{earlier}\n</earlier>\n\n{prompt}"
    )


def _say_state(turn: Turn, state: event_pb2.SandboxState.ValueType) -> None:
    turn.emit(event_pb2.Event(sandbox_changed=event_pb2.SandboxChanged(state=state)))


def _say_ready(turn: Turn, claim: Claim) -> None:
    claimed("pool" if claim.pooled else _SOURCES[claim.state], claim.seconds)
    if claim.state == event_pb2.SANDBOX_STATE_IDLE:
        return
    changed = event_pb2.SandboxChanged(state=claim.state, pooled=claim.pooled)
    changed.duration.FromNanoseconds(int(claim.seconds * 1e9))
    turn.emit(event_pb2.Event(sandbox_changed=changed))
