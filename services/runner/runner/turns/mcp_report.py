"""Tells which of the MCP servers that a turn names are not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import structlog
from pointsman.session.v1 import event_pb2
from servicekit.errors import Failure

from runner.agent.agent import Agent
from runner.bounded import bounded_text, clean
from runner.turns.turns import Turn

_MESSAGES: Final = {
    "failed": "It could not be started, or it ended.",
    "pending": "It had not started by the end of the turn.",
    "needs-auth": "It wants credentials that it does not have.",
    "disabled": "It is turned off.",
}
_SAID_BYTES: Final = 500

_log = structlog.get_logger("runner.mcp")


class McpReport:
    """The MCP servers of one turn. Each that cannot be used is told once, as an event and in the log."""

    def __init__(self, turn: Turn, agent: Agent, names: Sequence[str]) -> None:
        self._turn = turn
        self._agent = agent
        self._left = set(names)

    async def look(self, *, over: bool) -> None:
        """Tell of servers that are not there; of those that still start only when the turn is `over`."""
        if not self._left:
            return
        try:
            servers = await self._agent.mcp_servers()
        except (Failure, TimeoutError) as error:
            _log.warning("mcp_servers_unknown", turn=self._turn.ref.name, why=str(error))
            return
        states = {clean(each.get("name")): each for each in servers if isinstance(each, dict)}
        for name in sorted(self._left):
            server: dict[str, Any] = states.get(name, {"status": "failed"})
            status = clean(server.get("status"))
            if status != "connected" and (over or status != "pending"):
                self._left.discard(name)
                self._tell(name, status, clean(server.get("error")))

    def _tell(self, name: str, status: str, error: str) -> None:
        said = bounded_text(error, _SAID_BYTES)[0]
        message = f"{_MESSAGES.get(status, status)} {said}".strip()
        _log.warning("mcp_server_unavailable", turn=self._turn.ref.name, server=name, why=message)
        told = event_pb2.McpServerUnavailable(name=name, message=message)
        self._turn.emit(event_pb2.Event(mcp_server_unavailable=told))
