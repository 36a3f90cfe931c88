"""What the runner says of sandboxes, for those who look at sessions between turns."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from pointsman.session.v1 import event_pb2, session_service_pb2
from servicekit.errors import Failure

from session.caller import Caller
from session.clock import timestamp
from session.peers import Party, Runner
from session.sessions.state import AgentState
from session.storage.rows import SessionRow

_log = structlog.get_logger("session.sandboxes")

# A state is this old at most while the runner answers.
_FRESH_SECONDS: Final = 2.0
# A look at a session does not wait longer for it.
_WAIT_SECONDS: Final = 0.3
_TENANTS: Final = 256

States = Mapping[str, session_service_pb2.SandboxStatus]


@dataclass
class _Known:
    time: float
    states: States | None


class Sandboxes:
    """Knows the state of each tenant's sandboxes, as of a moment ago."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def of(self, caller: Caller) -> States | None:
        """Return the states by session name; None while the runner does not say."""
        known = self._known.get(caller.tenant)
        if known is None or time.monotonic() - known.time > _FRESH_SECONDS:
            asking = self._asking.get(caller.tenant) or self._ask(caller)
            await asyncio.wait({asking}, timeout=_WAIT_SECONDS)
            known = self._known.get(caller.tenant)
        return None if known is None else known.states

    def _ask(self, caller: Caller) -> asyncio.Task[None]:
        task = asyncio.create_task(self._learn(caller))
        self._asking[caller.tenant] = task
        task.add_done_callback(lambda _task: self._asking.pop(caller.tenant, None))
        return task

    async def _learn(self, caller: Caller) -> None:
        try:
            party = Party(caller.tenant, caller.account or "", caller.principal, "sandboxes")
            states = await self._runner.sandboxes(party)
        except Failure as failure:
            _log.info("sandboxes_unknown", reason=failure.reason_name)
            states = None
        self._known[caller.tenant] = _Known(time.monotonic(), states)
        self._known.move_to_end(caller.tenant)
        if len(self._known) > _TENANTS:
            self._known.popitem(last=False)


def sandbox_view(session: SessionRow, states: States | None) -> session_service_pb2.SandboxStatus:
    """Return a session's sandbox: as the runner says, or as its last turn left it."""
    if states is not None and session.name in states:
        return states[session.name]
    state = AgentState.load(session.agent_state)
    status = session_service_pb2.SandboxStatus(
        state=event_pb2.SandboxState.ValueType(state.sandbox), last_heartbeat_time=timestamp(state.heartbeat)
    )
    if states is not None and state.heartbeat:
        # It had one, and its runner does not have it any more.
        status.state = event_pb2.SANDBOX_STATE_HIBERNATED
    return status
