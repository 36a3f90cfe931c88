"""What the options of a turn say about one call of a tool. This decides, not the CLI's own mode.

The CLI's mode can differ from the turn's: it changes when the agent leaves plan mode, and in plan mode
version 2.1.329 lets a model call judge commands in place of a person. So the PreToolUse hook asks here about
every call, of the agent and of sub-agents, and tells the CLI the answer.
"""

from __future__ import annotations

import enum
import posixpath
from collections.abc import Iterable
from typing import Any, Final

from pointsman.session.v1 import turn_pb2

from runner.agent.read_only_commands import is_read_only
from runner.agent.tools import AGENT_TOOLS, ALWAYS_ASKED, CHANGES_NOTHING, EDITING, is_offered
from runner.sandboxes.protocol import HOME

_ACCEPTING: Final = frozenset({turn_pb2.PERMISSION_MODE_UNSPECIFIED, turn_pb2.PERMISSION_MODE_ACCEPT_EDITS})
_PLANS: Final = f"{HOME}/.claude/plans/"
"""Where the CLI has the agent write its plan, outside the workspace. For a link there, the CLI asks."""


class Verdict(enum.Enum):
    """What happens with a call."""

    ALLOW = "allow"
    """It runs."""
    ASK = "ask"
    """A person decides."""
    DENY = "deny"
    """It does not run."""
    RULES = "rules"
    """It changes nothing, or a rule of `allowed_tools` has to be matched: the CLI's rules run it or ask."""


def verdict(options: turn_pb2.TurnOptions, tool: str, tool_input: Any) -> Verdict:
    """Return what happens with a call of a tool in a turn with these options."""
    if not is_offered(tool) or any(_is_whole(rule, tool) for rule in options.disallowed_tools):
        return Verdict.DENY
    if tool in ALWAYS_ASKED:
        return Verdict.ASK
    mode = options.permission_mode
    if mode == turn_pb2.PERMISSION_MODE_BYPASS_PERMISSIONS:
        return Verdict.ALLOW
    if mode in _ACCEPTING and not options.allowed_tools:
        return Verdict.ALLOW
    if mode != turn_pb2.PERMISSION_MODE_PLAN and options.allowed_tools:
        listed = _listed(options.allowed_tools, tool)
        if listed is not None:
            return listed
    return Verdict.RULES if _changes_nothing(tool, tool_input) else Verdict.ASK


def _listed(rules: Iterable[str], tool: str) -> Verdict | None:
    found = None
    for rule in rules:
        if _is_whole(rule, tool):
            return Verdict.ALLOW
        name = rule.split("(", 1)[0]
        if _same(name, tool) or (name == "Edit" and tool in EDITING):
            found = Verdict.RULES
    return found


def _is_whole(rule: str, tool: str) -> bool:
    """Whether a rule names the whole of a tool: by its name, or as one of an MCP server's."""
    if rule.startswith("mcp__"):
        of_server = rule.count("__") == 1 or rule.endswith("__*")
        server = rule.removesuffix("*").removesuffix("__")
        return tool == rule or (of_server and tool.startswith(f"{server}__"))
    return _same(rule, tool)


def _same(name: str, tool: str) -> bool:
    return name == tool or (name in AGENT_TOOLS and tool in AGENT_TOOLS)


def _changes_nothing(tool: str, tool_input: Any) -> bool:
    given = tool_input if isinstance(tool_input, dict) else {}
    if tool == "Bash":
        return is_read_only(given.get("command"))
    if tool in EDITING:
        path = given.get("file_path")
        return isinstance(path, str) and posixpath.normpath(path).startswith(_PLANS)
    if tool in AGENT_TOOLS and given.get("isolation") is not None:
        # For a sub-agent with a worktree of its own, the CLI adds a folder and a branch to the repository.
        return False
    return tool in CHANGES_NOTHING
