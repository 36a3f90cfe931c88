"""What the owner of a turn writes: events, with everything that follows from them, under its epoch."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, turn_pb2
from servicekit.errors import Failure

from session import clock
from session.events.append import Append
from session.events.hub import Hub
from session.events.log import Log
from session.fit import EVENT_BYTES, fit
from session.metrics import metrics
from session.queue.claim import Claim
from session.refusals import LeaseLost
from session.sessions.snapshots import HOLD
from session.sessions.state import AgentState, add_usage

# Pieces that wait for an event before them to be logged: a second of a fast model. More are dropped, and
# come with the whole block.
_HELD: Final = 1000
# How long clients have to read the end of a temporary session's only turn.
_TEMPORARY_LEFT: Final = timedelta(minutes=1)


class TurnWriter:
    """Writes one claimed turn. Events are logged in the order of the calls; deltas keep their place."""

    def __init__(self, claim: Claim, log: Log, hub: Hub) -> None:
        self.turn = claim.turn
        self._lease = claim.lease
        self.index = claim.turn.runner_index
        self.restarts = claim.turn.restarts
        self.tool_ran = bool(claim.turn.tool_ran)
        self.state = AgentState.load(claim.session.agent_state)
        self.usage = turn_pb2.Usage.FromString(claim.turn.usage)
        self._snapshot_before = claim.session.snapshot_id
        self._changed_before = claim.session.workspace_changed
        self._session_usage = turn_pb2.Usage.FromString(claim.session.usage)
        self._log = log
        self._hub = hub
        self._newest: Append | None = None
        self.changed = False
        """Whether the turn, or a caller before it, may have changed the workspace; known at its end."""
        self.finished = False
        """Whether the turn's last event was put into the log."""

    @property
    def epoch(self) -> int:
        """The epoch that it writes under."""
        return self._lease.epoch

    async def put(
        self, event: event_pb2.Event, index: int = 0, *, turn: dict[str, Any] | None = None
    ) -> Append:
        """Put an event, and return the append to wait for, if need be.

        `index` is that of the runner's item it came with, `turn` are columns to change besides. Raises
        LeaseLost when an earlier one was refused.
        """
        self.check()
        fit(event, EVENT_BYTES)
        append = Append(self.turn.session_id, self.turn.id, self.epoch, [event], index, turn=turn or {})
        self._fold(event, append)
        self.index = max(self.index, index)
        self._newest = append
        await self._log.put(append)
        return append

    async def restart(self, counts: int) -> None:
        """Note, durably, that the turn is started again, and go on under the next epoch.

        `counts` says how much towards the limit. Nothing of the attempt before can be written after it.
        Raises LeaseLost.
        """
        starting = event_pb2.SandboxChanged(state=event_pb2.SANDBOX_STATE_STARTING)
        self.restarts += counts
        changes = {"epoch": self.epoch + 1, "runner_index": 0, "restarts": self.restarts}
        append = await self.put(event_pb2.Event(sandbox_changed=starting), turn=changes)
        await append.written()
        self._lease.epoch += 1
        self.index = 0

    def check(self) -> None:
        """Raise LeaseLost when the newest event was refused."""
        newest = self._newest
        if newest is not None and newest.done.done() and not newest.done.cancelled():
            error = newest.done.exception()
            if error is not None:
                raise error

    async def settled(self) -> None:
        """Wait until everything that was put is durable. Raises LeaseLost when it was refused."""
        if self._newest is not None:
            await self._newest.written()

    def delta(self, event: event_pb2.Event) -> None:
        """Send a piece of a block, after the events before it."""
        event.turn = self.turn.name
        if self._newest is None or self._newest.done.done():
            self._hub.publish_delta(self.turn.session_id, event)
        elif len(self._newest.pieces) < _HELD:
            self._newest.pieces.append(event)

    def _fold(self, event: event_pb2.Event, append: Append) -> None:
        time = clock.now()
        kind = event.WhichOneof("kind")
        self.state.apply(event, time)
        if kind == "tool_use" and not self.tool_ran:
            self.tool_ran = True
            append.turn["tool_ran"] = 1
            append.session["workspace_made"] = 1
        elif kind == "usage":
            add_usage(self.usage, event.usage.usage)
            add_usage(self._session_usage, event.usage.usage)
            append.turn["usage"] = self.usage.SerializeToString()
            append.session["usage"] = self._session_usage.SerializeToString()
        elif kind == "permission_requested":
            append.permissions.append(self._permission(event.permission_requested, time))
        elif kind == "turn_finished":
            self._finish(event.turn_finished, append, time)
            append.done.add_done_callback(lambda done: self._measure(done, event.turn_finished, time))
        append.session["agent_state"] = self.state.dump()

    def _measure(self, done: asyncio.Future[Any], finished: turn_pb2.TurnFinished, time: int) -> None:
        if not done.cancelled() and done.exception() is None:
            metrics().ended(self.turn, finished, time)

    def _permission(self, asked: event_pb2.PermissionRequested, time: int) -> dict[str, Any]:
        if not asked.HasField("expire_time"):
            wait = self.turn.turn_options.permission_timeout.ToTimedelta()
            asked.expire_time.FromMicroseconds(time + clock.micros(wait))
        return {
            "turn_id": self.turn.id,
            "permission_id": asked.permission_id,
            "session_id": self.turn.session_id,
            "tool": asked.tool,
            "create_time": time,
            "expire_time": clock.from_timestamp(asked.expire_time),
            "decision": 0,
            "decided": b"",
        }

    def _finish(self, finished: turn_pb2.TurnFinished, append: Append, time: int) -> None:
        self.finished = True
        if not finished.HasField("usage"):
            finished.usage.CopyFrom(self.usage)
        append.turn |= {
            "state": int(finished.outcome),
            "end_time": time,
            "result": finished.SerializeToString(),
            "usage": finished.usage.SerializeToString(),
            "tool_ran": int(self.tool_ran or finished.tool_ran),
        }
        self.changed = bool(append.turn["tool_ran"] or self._changed_before)
        if append.turn["tool_ran"]:
            append.session["workspace_made"] = 1
        if self.changed:
            # Until it is kept as the turn left it.
            append.session["hold_until"] = time + HOLD
            # Counted on, so that a snapshot that never comes to be is made up for by the next turn's.
            append.session["workspace_changed"] = self._changed_before + 1
        else:
            append.turn["snapshot_id"] = self._snapshot_before
        if self.turn.temporary:
            append.session["expire_time"] = time + clock.micros(_TEMPORARY_LEFT)

    async def finish(
        self, outcome: turn_pb2.TurnState.ValueType, result: str = "", error: Failure | None = None
    ) -> None:
        """Log our own `turn_finished`, and wait until it is durable. A lost lease is no error here."""
        took = Duration()
        took.FromMicroseconds(max(clock.now() - self.turn.start_time, 0))
        finished = turn_pb2.TurnFinished(
            outcome=outcome,
            result=result,
            error=error.to_proto() if error is not None else None,
            usage=self.usage,
            duration=took,
            tool_ran=self.tool_ran,
        )
        try:
            await self.put(event_pb2.Event(turn_finished=finished))
            await self.settled()
        except LeaseLost:
            self.finished = False

    async def interrupted(self, message: str) -> None:
        """End the turn as cut off."""
        error = Failure(
            errors_pb2.ERROR_REASON_TURN_INTERRUPTED, message, tool_ran="true" if self.tool_ran else "false"
        )
        await self.finish(turn_pb2.TURN_STATE_INTERRUPTED, error=error)

    async def cancelled(self) -> None:
        """End the turn as cancelled."""
        error = Failure(errors_pb2.ERROR_REASON_TURN_CANCELLED, "The turn was cancelled.")
        await self.finish(turn_pb2.TURN_STATE_CANCELLED, error=error)

    async def failed(self, error: Failure) -> None:
        """End the turn as failed."""
        await self.finish(turn_pb2.TURN_STATE_FAILED, error=error)


def timed_out(options: turn_pb2.TurnOptions) -> Failure:
    """Return why a turn that ran too long was ended."""
    seconds = options.timeout.ToTimedelta().total_seconds()
    return Failure(
        errors_pb2.ERROR_REASON_TURN_TIMED_OUT,
        f"The turn ran longer than its timeout of {seconds:g} seconds.",
    )
