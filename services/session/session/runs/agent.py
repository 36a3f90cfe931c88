"""Agent turns: started in the runner once, followed until they end, found again when a connection breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2
from servicekit.errors import Failure

from session.events.blocks import delta_key
from session.peers import Party, Runner
from session.permissions import Permissions
from session.refusals import LeaseLost
from session.runs.writer import TurnWriter, timed_out
from session.sessions.history import told
from session.storage.rows import TurnRow

_log = structlog.get_logger("session.agent")

# The runner keeps the turn's timeout; only one that hangs meets ours.
_TIMEOUT_GRACE_SECONDS: Final = 15.0
# So long may a runner take to stop a turn before we end it ourselves.
_CANCEL_GRACE_SECONDS: Final = 10.0
_CANCEL_AGAIN_SECONDS: Final = 0.2
_MAX_PAUSE_SECONDS: Final = 1.0

# A turn that has done nothing is started again after the loss of its runner, but not for ever: it may be what
# the runner dies of. One that only waited for its agent is hardly that, and counts for less.
_MAX_RESTARTS: Final = 20
_BOOTED_COUNTS: Final = 4
# The first item of an attempt says that a sandbox is being started, the second that it is there.
_BOOTED_INDEX: Final = 2

# Failures that say nothing about the turn: ask again.
_TRANSIENT: Final = frozenset(
    {
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_CALL_TIMED_OUT,
        errors_pb2.ERROR_REASON_CALL_CANCELLED,
        errors_pb2.ERROR_REASON_INTERNAL,
    }
)


class AgentTurn:
    """One agent turn of this replica.

    `recovered`: it was started before, so it is only followed. `acted` looks into the log for anything that
    the agent said or did; `epoch_if_over` returns the last epoch of a turn that is over, else 0. `patience`
    is how many seconds the runner may be out of reach. Setting `cancel` stops the turn.
    """

    def __init__(
        self,
        writer: TurnWriter,
        runner: Runner,
        permissions: Permissions,
        cancel: asyncio.Event,
        *,
        recovered: bool,
        direct_turns: Sequence[TurnRow],
        sandbox: runner_service_pb2.SandboxSettings,
        workspace_made: bool,
        acted: Callable[[TurnRow], Awaitable[bool]],
        epoch_if_over: Callable[[str], Awaitable[int]],
        patience: float,
    ) -> None:
        self._writer = writer
        self._runner = runner
        self._permissions = permissions
        self._cancel = cancel
        self._sent = recovered
        self._direct_turns = direct_turns
        self._sandbox = sandbox
        self._workspace_made = workspace_made
        self._acted = acted
        self._epoch_if_over = epoch_if_over
        self._patience = patience
        self._turn = writer.turn
        self._party = Party(
            self._turn.tenant, self._turn.account, self._turn.principal, self._turn.request_id
        )

    async def run(self) -> None:
        """Run the turn to its end. Raises LeaseLost; when cancelled, leaves the turn running."""
        left = self._seconds_left() + _TIMEOUT_GRACE_SECONDS
        deadline = asyncio.timeout(left)
        stopper = asyncio.create_task(self._stop_when_asked(deadline))
        try:
            async with deadline:
                await self._follow()
        except TimeoutError:
            await self._end_ourselves()
        finally:
            stopper.cancel()
            with suppress(asyncio.CancelledError):
                await stopper

    def _seconds_left(self) -> float:
        timeout = self._turn.turn_options.timeout.ToTimedelta().total_seconds()
        return max(timeout - (time.time() - self._turn.start_time / 1e6), 0.0)

    async def _end_ourselves(self) -> None:
        with suppress(Failure):
            await self._runner.cancel_turn(self._party, self._turn.name, self._writer.epoch)
        if self._cancel.is_set():
            await self._writer.cancelled()
        else:
            await self._writer.failed(timed_out(self._turn.turn_options))

    async def _stop_when_asked(self, deadline: asyncio.Timeout) -> None:
        await self._cancel.wait()
        deadline.reschedule(asyncio.get_running_loop().time() + _CANCEL_GRACE_SECONDS)
        while True:
            # Asked again until the turn ends: the runner may hear of this before it hears of the turn.
            with suppress(Failure):
                await self._runner.cancel_turn(self._party, self._turn.name, self._writer.epoch)
            await asyncio.sleep(_CANCEL_AGAIN_SECONDS)

    async def _follow(self) -> None:
        """Take in the runner's items until the turn is over."""
        pause, unreachable_since = 0.05, time.monotonic()
        while not self._writer.finished:
            if not self._sent and self._cancel.is_set():
                await self._writer.cancelled()
                return
            index, epoch = self._writer.index, self._writer.epoch
            try:
                await self._attend()
            except Failure as failure:
                if await self._is_final(failure):
                    return
                _log.info("runner_lost", turn=self._turn.name, reason=failure.reason_name)
            if self._writer.index > index or self._writer.epoch > epoch:
                pause, unreachable_since = 0.05, time.monotonic()
            if not self._writer.finished:
                if time.monotonic() - unreachable_since > self._patience:
                    await self._give_up()
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 2, _MAX_PAUSE_SECONDS)
        await self._writer.settled()

    async def _attend(self) -> None:
        """Follow one stream of the runner to its end."""
        if not self._sent:
            # A request that was sent may have started the turn, whatever became of the answer; so it is sent
            # once, when there is somebody to take it.
            try:
                async with asyncio.timeout(_MAX_PAUSE_SECONDS):
                    await self._runner.reachable()
            except TimeoutError:
                raise _runner_unreachable() from None
        request = self._request()
        self._sent = True
        seconds = self._seconds_left() + 2 * _TIMEOUT_GRACE_SECONDS
        async for item in self._runner.run_turn(self._party, request, seconds):
            await self._take(item)
            if self._writer.finished:
                break

    def _request(self) -> runner_service_pb2.RunTurnRequest:
        if self._sent:
            return runner_service_pb2.RunTurnRequest(
                turn=self._turn.name,
                account=self._turn.account,
                epoch=self._writer.epoch,
                model=self._turn.model,
                after_index=self._writer.index,
                attach_only=True,
            )
        context, prompt = self._turn.context.decode(), self._turn.prompt.decode()
        return runner_service_pb2.RunTurnRequest(
            turn=self._turn.name,
            account=self._turn.account,
            epoch=self._writer.epoch,
            model=self._turn.model,
            prompt=f"{context}\n\n{prompt}" if context else prompt,
            options=self._turn.turn_options,
            direct_turns=told(self._direct_turns),
            sandbox=self._sandbox,
            workspace_made=self._workspace_made,
        )

    async def _take(self, item: runner_service_pb2.RunTurnResponse) -> None:
        event = item.event
        if delta_key(event) is not None:
            self._writer.check()
            self._writer.delta(event)
            return
        if item.index <= self._writer.index:
            # A keep-alive, or what was taken in before the connection broke.
            self._writer.check()
            return
        kind = event.WhichOneof("kind")
        if kind == "permission_decided":
            await self._writer.settled()
            await self._permissions.decided_by_runner(self._turn, event.permission_decided)
            return
        append = await self._writer.put(event, item.index)
        if kind == "permission_requested":
            await append.written()
            await self._permissions.requested(self._turn, event.permission_requested)

    async def _is_final(self, failure: Failure) -> bool:
        """Say whether the failure ends our part, and end the turn if it does."""
        if failure.reason == errors_pb2.ERROR_REASON_LEASE_LOST:
            raise LeaseLost
        if failure.reason == errors_pb2.ERROR_REASON_TURN_NOT_FOUND:
            return await self._runner_gone(failure)
        if failure.reason == errors_pb2.ERROR_REASON_TURN_RUNNING:
            # Refused, so it was not begun. The runner still has a turn that is over for us.
            self._sent = False
            await self._stop_other(failure.metadata.get("turn", ""))
            return False
        if failure.reason == errors_pb2.ERROR_REASON_SERVICE_DRAINING:
            # Only a turn that has not begun is refused so. It is sent again, to the runner that comes next.
            self._sent = False
            return False
        if failure.reason in _TRANSIENT:
            return False
        await self._writer.failed(failure)
        return True

    async def _stop_other(self, name: str) -> None:
        """Stop a turn that the runner runs although it is over: we had given it up."""
        epoch = await self._epoch_if_over(name)
        if epoch:
            with suppress(Failure):
                await self._runner.cancel_turn(self._party, name, epoch)

    async def _runner_gone(self, failure: Failure) -> bool:
        """The turn died with its runner: start it again if it had done nothing; say whether it is over."""
        if self._cancel.is_set():
            await self._writer.cancelled()
            return True
        if failure.metadata.get("acted") == "true":
            self._writer.tool_ran = True
        harmless = failure.metadata.get("acted") == "false" or self._never_came(failure)
        if harmless and self._writer.restarts < _MAX_RESTARTS and not await self._did_something():
            booted = self._writer.index >= _BOOTED_INDEX
            await self._writer.restart(_BOOTED_COUNTS if booted else 1)
            self._sent = False
            return False
        await self._writer.interrupted(
            "The runner that the turn ran in is gone. What it had done is in the log and in the workspace; "
            "send the prompt again if you want it done again."
        )
        return True

    def _never_came(self, failure: Failure) -> bool:
        """Say whether the runner would know the turn if it had ever begun there."""
        since = failure.metadata.get("since", "")
        return since.isdecimal() and int(since) <= self._turn.start_time

    async def _did_something(self) -> bool:
        """Say whether the log has anything that the agent said or did."""
        await self._writer.settled()
        return self._writer.tool_ran or await self._acted(self._turn)

    async def _give_up(self) -> None:
        if self._sent:
            await self._writer.interrupted(
                f"The runner could not be reached for {self._patience:g} seconds. What the turn had done by "
                "then is in the log; send the prompt again if you want it done again."
            )
        else:
            await self._writer.failed(_runner_unreachable())


def _runner_unreachable() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        "The runner service cannot be reached; nothing was run. Try again.",
        service="runner",
    )
