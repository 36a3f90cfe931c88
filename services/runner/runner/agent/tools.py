"""The tools that an agent is offered, and what each may do."""

from __future__ import annotations

from typing import Final

QUESTION_TOOL: Final = "AskUserQuestion"
PLAN_TOOL: Final = "ExitPlanMode"
SCHEMA_TOOL: Final = "StructuredOutput"
"""Offered by the CLI itself in turns with an output schema."""
AGENT_TOOLS: Final = frozenset({"Agent", "Task"})
"""Starts a sub-agent. The CLI knows it by both names."""
EDITING: Final = frozenset({"Edit", "NotebookEdit", "Write"})
"""The CLI applies rules for `Edit` to all of these."""

OFFERED: Final = (
    "Agent",
    QUESTION_TOOL,
    "Bash",
    "Edit",
    "EnterWorktree",
    PLAN_TOOL,
    "ExitWorktree",
    "NotebookEdit",
    "Read",
    "SendMessage",
    "Skill",
    "WebFetch",
    "WebSearch",
    "Write",
)
"""Every built-in tool of the agent: the CLI's own list changes between versions.

Withheld from those of Claude Code 2.1.329:
CronCreate, CronDelete, CronList, Monitor, ScheduleWakeup, TaskStop, Workflow: they work after the turn's end,
  when nobody listens any more.
ListAgents: lists agents in the background, of which there are none.
EnterPlanMode: a turn's permission mode is the caller's choice.
ReportFindings: its findings are shown in a terminal only.
"""

WITHHELD_AGENTS: Final = ("Agent(claude-code-guide)", "Agent(statusline-setup)")
"""Built-in sub-agents that are for terminals. Each is fixed to a model of Anthropic's."""

ALWAYS_ASKED: Final = frozenset({QUESTION_TOOL, PLAN_TOOL})
"""What a person has to answer in every mode."""

CHANGES_NOTHING: Final = frozenset(
    {*AGENT_TOOLS, "ListMcpResourcesTool", "Read", "ReadMcpResourceTool", SCHEMA_TOOL, "SendMessage", "Skill"}
)
"""Tools that change nothing by themselves. What a sub-agent or a skill calls is a call of its own."""


def is_offered(tool: str) -> bool:
    """Whether the agent may have a tool of this name: a built-in one, or any of an MCP server."""
    return tool.startswith("mcp__") or tool in OFFERED or tool in AGENT_TOOLS or tool in CHANGES_NOTHING
