"""Options of a turn that a single call to a model cannot keep."""

from __future__ import annotations

from typing import Final

from pointsman.session.v1 import turn_pb2

_OPTIONS: Final = (
    "output_schema",
    "agents",
    "mcp_servers",
    "max_budget_usd",
    "effort",
    "max_thinking_tokens",
)


def agent_only(options: turn_pb2.TurnOptions) -> str:
    """Return the name of an option that only agents have; empty when none is used."""
    if options.permission_mode == turn_pb2.PERMISSION_MODE_PLAN:
        return "permission_mode"
    used = {field.name for field, _ in options.ListFields()}
    return next((name for name in _OPTIONS if name in used), "")
