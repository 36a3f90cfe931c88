"""The calls by which the CLI asks us about tools: before one runs, for permission, and after an edit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from claude_agent_sdk import (
    HookContext,
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    ToolPermissionContext,
)
from claude_agent_sdk.types import HookEvent, HookInput, HookJSONOutput
from servicekit.errors import Failure

from runner.agent.file_change import EDIT_TOOLS
from runner.agent.tools import AGENT_TOOLS
from runner.agent.verdict import Verdict
from runner.bounded import clean

Permission = PermissionResultAllow | PermissionResultDeny
_NO_TURN: Final = "No turn is running."


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool, as the CLI tells it: none of it is checked."""

    tool: str
    input: Any
    tool_use_id: str
    agent_id: str
    """The CLI's id of the sub-agent that makes the call; '' for the agent itself."""
    suggestions: list[Any] = field(default_factory=list)


class ToolListener(Protocol):
    """Who decides about the tools of a turn."""

    async def tool_comes(self, call: ToolCall) -> Verdict:
        """Say what happens with a call, before it runs. Raises Failure when none may run."""
        ...

    async def permission(self, call: ToolCall) -> Permission:
        """Decide a call that the CLI asks about."""
        ...

    async def edited(self, call: ToolCall, report: Any) -> None:
        """Take what an edit tool says that it did. Comes between the tool's use and its result."""
        ...


class ToolHooks:
    """Answers the CLI in the name of the turn that runs; `listener` returns it, None between turns."""

    def __init__(self, listener: Callable[[], ToolListener | None]) -> None:
        self._listener = listener

    def matchers(self) -> dict[HookEvent, list[HookMatcher]]:
        """Return the hooks for the SDK. A hook that fails blocks its tool."""
        return {
            "PreToolUse": [HookMatcher(hooks=[self.before], on_failure="block")],
            "PostToolUse": [HookMatcher(matcher=EDIT_TOOLS, hooks=[self.after_edit])],
        }

    async def before(self, hook: HookInput, tool_use_id: str | None, context: HookContext) -> HookJSONOutput:
        """Say what happens with a call. The CLI waits for it, in every mode and for sub-agents, too."""
        listener, call = self._listener(), _call(hook, tool_use_id)
        if listener is None:
            return _output(Verdict.DENY, call, _NO_TURN)
        try:
            return _output(
                await listener.tool_comes(call), call, f"{call.tool} is not available in this turn."
            )
        except Failure as failure:
            return _output(Verdict.DENY, call, failure.message)

    async def permission(
        self, tool: str, tool_input: dict[str, Any], context: ToolPermissionContext
    ) -> Permission:
        """Answer whether a tool may run."""
        listener = self._listener()
        if listener is None:
            return PermissionResultDeny(message=_NO_TURN, interrupt=True)
        call = ToolCall(
            clean(tool), tool_input, clean(context.tool_use_id), clean(context.agent_id), context.suggestions
        )
        return await listener.permission(call)

    async def after_edit(
        self, hook: HookInput, tool_use_id: str | None, context: HookContext
    ) -> HookJSONOutput:
        """Tell what an edit tool says that it did."""
        if (listener := self._listener()) is not None:
            await listener.edited(_call(hook, tool_use_id), hook.get("tool_response"))
        return {}


def _call(hook: HookInput, tool_use_id: str | None) -> ToolCall:
    given: Any = hook
    return ToolCall(
        clean(given.get("tool_name")),
        given.get("tool_input"),
        clean(tool_use_id),
        clean(given.get("agent_id")),
    )


def _output(said: Verdict, call: ToolCall, denial: str) -> HookJSONOutput:
    answer: dict[str, Any] = {"hookEventName": "PreToolUse"}
    if said is Verdict.DENY:
        answer |= {"permissionDecision": "deny", "permissionDecisionReason": denial}
    elif said is not Verdict.RULES:
        answer |= {"permissionDecision": said.value}
    if call.tool in AGENT_TOOLS and isinstance(call.input, dict) and "model" in call.input:
        # An alias such as `haiku`, for models of Anthropic's. A sub-agent has the model of its definition,
        # else that of the turn.
        answer["updatedInput"] = {name: value for name, value in call.input.items() if name != "model"}
    return {"hookSpecificOutput": answer} if len(answer) > 1 else {}  # type: ignore[typeddict-item]
