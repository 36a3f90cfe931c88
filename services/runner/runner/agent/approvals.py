"""Permission requests of one turn: asked of whoever follows it, decided by people, denied when none does."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from claude_agent_sdk import PermissionResultAllow, PermissionResultDeny
from google.protobuf import json_format
from pointsman.session.v1 import event_pb2, turn_pb2

from runner.agent.tool_hooks import ToolCall
from runner.agent.verdict import Verdict, verdict
from runner.bounded import bounded_struct, bounded_text

_DEFAULT_WAIT: Final = timedelta(hours=1)
# The session service denies what nobody decided, and tells us. This is for when it does not.
_GRACE_SECONDS: Final = 30.0
_STRING_BYTES: Final = 64 * 1024

Decision = PermissionResultAllow | PermissionResultDeny


class Approvals:
    """Decides whether tools may run: by the turn's options where they say, else by asking.

    `say` takes the events. `waited` is how long the turn has waited for people; its deadline leaves that out.
    """

    def __init__(self, options: turn_pb2.TurnOptions, say: Callable[[event_pb2.Event], None]) -> None:
        self._options = options
        self._say = say
        self._open: dict[str, asyncio.Future[event_pb2.PermissionDecided]] = {}
        self._decided: set[str] = set()
        self._finished_waits = 0.0
        self._waiting_since: dict[str, float] = {}

    @property
    def waited(self) -> float:
        """Seconds that the turn has waited for people; waiting for two at once counts once."""
        if not self._waiting_since:
            return self._finished_waits
        return self._finished_waits + time.monotonic() - min(self._waiting_since.values())

    def verdict(self, call: ToolCall) -> Verdict:
        """Return what the turn's options say about a call."""
        return verdict(self._options, call.tool, call.input)

    async def permission(self, call: ToolCall, parent: str) -> Decision:
        """Answer the agent's question whether a tool may run.

        `parent` is the tool call of the sub-agent that asks, '' for the agent itself.
        """
        said = self.verdict(call)
        if said is Verdict.ALLOW:
            return PermissionResultAllow()
        if said is Verdict.DENY:
            return PermissionResultDeny(message=f"{call.tool} is not available in this turn.")
        permission_id = str(uuid.uuid4())
        wait = self._options.permission_timeout.ToTimedelta() or _DEFAULT_WAIT
        decided = asyncio.get_running_loop().create_future()
        self._open[permission_id] = decided
        began = self._waiting_since[permission_id] = time.monotonic()
        try:
            self._say(self._request(permission_id, call, parent, wait))
            async with asyncio.timeout(wait.total_seconds() + _GRACE_SECONDS):
                return _result(await decided)
        except TimeoutError:
            return self._nobody(permission_id, parent)
        finally:
            del self._open[permission_id]
            self._decided.add(permission_id)
            self._waited_from(permission_id, began)

    def decide(self, decided: event_pb2.PermissionDecided) -> bool:
        """Hand a decision over; False when it is for no request of this turn. Again is harmless."""
        waiting = self._open.get(decided.permission_id)
        if waiting is None:
            return decided.permission_id in self._decided
        if not waiting.done():
            waiting.set_result(decided)
        return True

    def _request(self, permission_id: str, call: ToolCall, parent: str, wait: timedelta) -> event_pb2.Event:
        asked = event_pb2.PermissionRequested(
            permission_id=permission_id,
            tool=bounded_text(call.tool, 256)[0],
            input=bounded_struct(call.input, _STRING_BYTES),
            tool_use_id=call.tool_use_id,
        )
        asked.expire_time.FromDatetime(datetime.now(UTC) + wait)
        for suggestion in call.suggestions[:16]:
            with contextlib.suppress(ValueError):
                asked.suggestions.append(bounded_struct(suggestion.to_dict(), 1024))
        return event_pb2.Event(permission_requested=asked, parent_tool_use_id=parent)

    def _nobody(self, permission_id: str, parent: str) -> Decision:
        decided = event_pb2.PermissionDecided(
            permission_id=permission_id, decision=event_pb2.PERMISSION_DECISION_DENY, timed_out=True
        )
        self._say(event_pb2.Event(permission_decided=decided, parent_tool_use_id=parent))
        return _result(decided)

    def _waited_from(self, permission_id: str, began: float) -> None:
        first = min(self._waiting_since.values())
        del self._waiting_since[permission_id]
        if not self._waiting_since:
            self._finished_waits += time.monotonic() - min(first, began)
        else:
            # The wait that goes on is counted from where the one that ended began.
            other = next(iter(self._waiting_since))
            self._waiting_since[other] = min(first, self._waiting_since[other])


def _result(decided: event_pb2.PermissionDecided) -> Decision:
    if decided.decision in (
        event_pb2.PERMISSION_DECISION_ALLOW,
        event_pb2.PERMISSION_DECISION_ALLOW_FOR_SESSION,
    ):
        changed = (
            json_format.MessageToDict(decided.updated_input) if decided.HasField("updated_input") else None
        )
        return PermissionResultAllow(updated_input=changed)
    if decided.timed_out:
        return PermissionResultDeny(message="Nobody decided in time, so it was denied.")
    return PermissionResultDeny(message=decided.message or "It was denied.")
