"""The turns that run or ran here: each once, by its id, whoever asks how often."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
from google.protobuf.struct_pb2 import Struct
from pointsman.errors.v1 import errors_pb2
from pointsman.runner.v1 import runner_service_pb2 as pb
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.errors import Failure

from runner.agent.approvals import Approvals
from runner.agent.outcome import Outcome, output_limit
from runner.names import SessionRef, TurnRef
from runner.threads import to_the_end
from runner.turns.journal import Journal, Past, TurnJournal
from runner.turns.kept import KeptTurns
from runner.turns.turn_log import LogFull, TurnLog

_log = structlog.get_logger("runner.turns")


class Turn:
    """One turn under way, and what it has said."""

    def __init__(self, ref: TurnRef, epoch: int, options: turn_pb2.TurnOptions, journal: TurnJournal) -> None:
        self.ref = ref
        self.epoch = epoch
        self.log = TurnLog(ref.name, journal.item)
        self._journal = journal
        self._acted = False
        self._acting = asyncio.Lock()
        self.approvals = Approvals(options, self.emit)
        self.usage = turn_pb2.Usage()
        self.tool_ran = False
        self.prompted = False
        self.cancelled = asyncio.Event()
        self.overflowed = asyncio.Event()
        self.began = time.monotonic()

    @property
    def bytes(self) -> int:
        """What is kept of what it has said."""
        return self.log.bytes

    def emit(self, event: event_pb2.Event) -> None:
        """Say something. When it is too much, `overflowed` is set and the rest is dropped."""
        try:
            self.log.append(event)
        except LogFull:
            self.overflowed.set()

    async def acts(self) -> None:
        """Note, durably, that from now on a tool may run. Raises Failure DISK_FULL; then none may."""
        async with self._acting:
            if not self._acted:
                await to_the_end(self._journal.acts)
                self._acted = True
        self.tool_ran = True

    async def over(self) -> None:
        """Wait until nothing of it runs any more. A turn has a deadline of its own."""
        with contextlib.suppress(Failure):
            async for _ in self.log.follow(self.log.last_index):
                pass

    def prompt_goes(self) -> None:
        """Note that the agent gets the prompt now: until `turn_ended` something of the turn may run."""
        self.prompted = True
        _log.info("turn_started", turn=self.ref.name, epoch=self.epoch)

    @property
    def had_effect(self) -> bool:
        """Whether it ran a tool, or said anything that is logged: then it is not started again."""
        return self._acted or self.tool_ran or self.log.had_effect

    def leave(self) -> None:
        """Stop without an end. Followers get TURN_NOT_FOUND, with the word that no tool ran."""
        self._journal.close()
        self.log.cut_off(cut_off(self.ref, acted=False))

    def take_over(self, epoch: int) -> None:
        """Follow a newer epoch: whoever followed an older one has lost the turn."""
        self.epoch = max(self.epoch, epoch)

    def finish(self, outcome: Outcome) -> None:
        """Say the last thing."""
        if self.log.finished:
            return
        finished = turn_pb2.TurnFinished(
            outcome=outcome.state, result=outcome.result, usage=self.usage, tool_ran=self.tool_ran
        )
        finished.duration.FromNanoseconds(int((time.monotonic() - self.began) * 1e9))
        if isinstance(outcome.structured_output, Struct):
            finished.structured_output.CopyFrom(outcome.structured_output)
        if outcome.failure is not None:
            finished.error.CopyFrom(outcome.failure.to_proto())
        self.log.append(event_pb2.Event(turn_finished=finished))
        self._journal.close()

    async def follow(self, after_index: int, epoch: int) -> AsyncIterator[pb.RunTurnResponse]:
        """Yield its items. Raises Failure LEASE_LOST when a newer epoch takes the turn over."""
        async for item in self.log.follow(after_index):
            if epoch < self.epoch:
                raise lease_lost(self.epoch)
            yield item


class PastTurn:
    """What is left of a turn of a runner before this one. Nothing of it runs any more."""

    def __init__(self, ref: TurnRef, past: Past) -> None:
        self._ref = ref
        self._past = past

    async def follow(self, after_index: int, epoch: int) -> AsyncIterator[pb.RunTurnResponse]:
        """Yield its items. Raises TURN_NOT_FOUND after them when it was cut off, LEASE_LOST."""
        if epoch < self._past.epoch:
            raise lease_lost(self._past.epoch)
        for item in self._past.items:
            if item.index > after_index:
                yield item
        if not self._past.finished:
            raise cut_off(self._ref, acted=self._past.acted)


class Turns:
    """All turns that are here. At most one per session runs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._turns: dict[TurnRef, Turn] = {}
        self._running: dict[SessionRef, Turn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._kept = KeptTurns()

    def find(self, ref: TurnRef) -> Turn | None:
        """Return a turn that runs or ran here."""
        return self._turns.get(ref)

    def began(self, ref: TurnRef, epoch: int) -> bool:
        """Return whether a turn began under this epoch or a later one, be it in a runner before this one."""
        return ref in self._turns or self._journal.epoch(ref) >= epoch

    def running(self, session: SessionRef) -> Turn | None:
        """Return the turn of a session that runs now."""
        return self._running.get(session)

    async def attach(self, ref: TurnRef, epoch: int) -> Turn | PastTurn:
        """Return a turn for one who has its lease. LEASE_LOST, TURN_NOT_FOUND.

        Metadata of the latter: `since` when it never came here, if it was made after that time (microseconds
        since 1970).
        """
        turn = self._turns.get(ref)
        if turn is None:
            past = await asyncio.to_thread(self._journal.read, ref)
            if past is not None:
                return PastTurn(ref, past)
            raise Failure(
                errors_pb2.ERROR_REASON_TURN_NOT_FOUND,
                f"{ref.name} is not on this runner.",
                since=str(self._journal.since),
            )
        if epoch < turn.epoch:
            raise lease_lost(turn.epoch)
        turn.take_over(epoch)
        return turn

    def start(
        self,
        ref: TurnRef,
        epoch: int,
        options: turn_pb2.TurnOptions,
        run: Callable[[Turn], Awaitable[Outcome]],
    ) -> Turn:
        """Run a turn that is not here yet. It goes on whoever listens.

        TURN_RUNNING when another one runs; DISK_FULL.
        """
        self._forget()
        other = self._running.get(ref.session)
        if other is not None:
            raise Failure(
                errors_pb2.ERROR_REASON_TURN_RUNNING,
                f"{other.ref.name} is running in this session; cancel it or wait for its end.",
                turn=other.ref.name,
            )
        turn = Turn(ref, epoch, options, self._journal.begin(ref, epoch))
        self._turns[ref] = self._running[ref.session] = turn
        task = asyncio.create_task(self._run(turn, run), name=f"turn {ref.turn_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return turn

    async def _run(self, turn: Turn, run: Callable[[Turn], Awaitable[Outcome]]) -> None:
        outcome = Outcome(failure=_internal())
        try:
            outcome = await run(turn)
        except Failure as failure:
            outcome = Outcome(failure=failure)
        except asyncio.CancelledError:
            if not turn.had_effect:
                self._leave(turn)
                return
            outcome = Outcome(failure=interrupted(tool_ran=turn.tool_ran))
        except Exception:  # noqa: BLE001 - a turn must end with an outcome, also for a fault of ours
            _log.exception("turn_failed", turn=turn.ref.name)
        if turn.overflowed.is_set():
            outcome = Outcome(result=outcome.result, failure=output_limit())
        del self._running[turn.ref.session]
        turn.finish(outcome)
        if turn.prompted:
            state = turn_pb2.TurnState.Name(outcome.state)
            _log.info("turn_ended", turn=turn.ref.name, epoch=turn.epoch, outcome=state)
        self._kept.add(turn)
        self._forget()

    def _leave(self, turn: Turn) -> None:
        """Let go of a turn that had no effect, so that its owner starts it again."""
        del self._running[turn.ref.session]
        del self._turns[turn.ref]
        turn.leave()
        if turn.prompted:
            _log.info("turn_left", turn=turn.ref.name, epoch=turn.epoch)

    def forget(self, session: SessionRef) -> None:
        """Remove what is kept of a session's turns. None runs."""
        for ref in [ref for ref in self._turns if ref.session == session]:
            del self._turns[ref]
        self._kept.forget(session)
        self._journal.forget(session)

    async def settle(self, seconds: float) -> None:
        """Give running turns so many seconds to end, then break off the others."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        await self.close()

    async def close(self) -> None:
        """Break all turns off.

        One that had an effect ends INTERRUPTED. Any other is left without an end, as a killed runner leaves
        it: its followers get TURN_NOT_FOUND, and their owner starts it again.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget(self) -> None:
        for ref in self._kept.outdated():
            # One whose session was deleted while it ran is not there.
            self._turns.pop(ref, None)


def lease_lost(epoch: int) -> Failure:
    """Return the failure of one whose lease on a turn is older than another's."""
    return Failure(
        errors_pb2.ERROR_REASON_LEASE_LOST,
        f"Another replica has the lease on this turn, with epoch {epoch}.",
        epoch=str(epoch),
    )


def cut_off(ref: TurnRef, *, acted: bool) -> Failure:
    """Return the failure of a turn without an end, whose runner stopped. `acted`: a tool may have run."""
    return Failure(
        errors_pb2.ERROR_REASON_TURN_NOT_FOUND,
        f"{ref.name} was cut off with the runner that it ran in.",
        acted="true" if acted else "false",
    )


def interrupted(*, tool_ran: bool) -> Failure:
    """Return the failure of a turn that was cut off by the end of its runner."""
    return Failure(
        errors_pb2.ERROR_REASON_TURN_INTERRUPTED,
        "The turn was cut off because its runner stopped. What it had done is in the log and in the "
        "workspace; send the prompt again if you want it done again.",
        tool_ran="true" if tool_ran else "false",
    )


def _internal() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_INTERNAL,
        "The runner failed in this turn; its log has it under the turn's name.",
    )
