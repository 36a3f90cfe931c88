"""What a turn hears from its agent, and what it makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from claude_agent_sdk import AssistantMessage, ResultMessage, StreamEvent, UserMessage
from pointsman.session.v1 import event_pb2, turn_pb2

from runner.agent.ahead import Ahead
from runner.agent.endings import Said
from runner.agent.file_change import Edits
from runner.agent.tool_hooks import Permission, ToolCall
from runner.agent.tools import EDITING
from runner.agent.translate import TranslateState, translate
from runner.agent.verdict import Verdict
from runner.bounded import bounded_text, clean
from runner.turns.turns import Turn


class Conversation:
    """The listener of one turn's agent and of its relay: turns both into the turn's events.

    `ahead` takes the model's text past the agent.
    `result` is done when the agent says that it is. `interrupt` asks the agent to stop, once it has the
    prompt.
    """

    def __init__(self, turn: Turn, prompt_uuid: str, edits: Edits) -> None:
        self._turn = turn
        self._prompt_uuid = prompt_uuid
        self.edits = edits
        self._state = TranslateState()
        self.ahead = Ahead(self._state, turn.emit)
        self._error: AssistantMessage | None = None
        self.result: asyncio.Future[ResultMessage] = asyncio.get_running_loop().create_future()
        self.interrupt: Callable[[], Awaitable[bool]] | None = None

    def message(self, message: object) -> None:
        """See Listener."""
        if isinstance(message, ResultMessage):
            # Any other result answers an earlier prompt that was broken off, or a job of the CLI's own.
            if self._prompt_uuid in _prompts(message) and not self.result.done():
                self.result.set_result(message)
            return
        if isinstance(message, AssistantMessage) and message.error and not message.parent_tool_use_id:
            # Most are the last message of a turn, whose end says the same with a reason.
            self._error = message
            return
        if _is_next(message):
            self._error_was_not_last()
        self._tell(message)

    @property
    def said(self) -> Said:
        """What the agent said before its result."""
        return Said(self._state.answer, clean(self._error.error) if self._error is not None else "")

    def _error_was_not_last(self) -> None:
        """Tell an error that the agent went on after, such as that a picture was removed."""
        if self._error is not None:
            error, self._error = self._error, None
            self._tell(error)

    def _tell(self, message: object) -> None:
        for event in translate(message, self._state):
            self._turn.emit(event)
        self.ahead.heard(message)
        self._turn.tool_ran = self._turn.tool_ran or self._state.tool_ran

    async def edited(self, call: ToolCall, report: Any) -> None:
        """See Listener."""
        change = await self.edits.change(report, call.tool_use_id)
        if change is None:
            return
        self._turn.tool_ran = True
        self._turn.emit(event_pb2.Event(file_change=change, parent_tool_use_id=self._caller(call)))

    async def tool_comes(self, call: ToolCall) -> Verdict:
        """See Listener."""
        await self._turn.acts()
        said = self._turn.approvals.verdict(call)
        if call.tool in EDITING and said is not Verdict.DENY:
            await self.edits.comes(call.input, call.tool_use_id)
        return said

    async def permission(self, call: ToolCall) -> Permission:
        """See Listener."""
        return await self._turn.approvals.permission(call, self._caller(call))

    def _caller(self, call: ToolCall) -> str:
        return self._state.caller(call.tool_use_id, call.agent_id)

    def note(self, kind: str, values: Mapping[str, Any]) -> None:
        """Take what llm-proxy reports through the relay: `usage` of a call, or a `retry`."""
        if kind == "usage":
            self._add_usage(values)
            return
        delay = timedelta(seconds=float(values.get("delay_seconds", 0)))
        retry = event_pb2.ModelRetry(
            attempt=int(values.get("attempt", 0)),
            max_attempts=int(values.get("max_attempts", 0)),
            status=int(values.get("status") or 0),
            message=bounded_text(clean(values.get("message")), 1024)[0],
        )
        retry.delay.FromTimedelta(delay)
        self._turn.emit(event_pb2.Event(model_retry=retry))

    def _add_usage(self, values: Mapping[str, Any]) -> None:
        usage = turn_pb2.Usage(
            input_tokens=int(values.get("input_tokens", 0)),
            output_tokens=int(values.get("output_tokens", 0)),
            cache_read_tokens=int(values.get("cache_read_tokens", 0)),
            cache_write_tokens=int(values.get("cache_write_tokens", 0)),
            cost_usd=float(values.get("cost_usd", 0)),
            model_calls=1,
            estimated_calls=int(bool(values.get("estimated"))),
        )
        total = self._turn.usage
        for field in usage.DESCRIPTOR.fields:
            setattr(total, field.name, getattr(total, field.name) + getattr(usage, field.name))
        reported = event_pb2.UsageReported(model=clean(values.get("model")), usage=usage)
        self._turn.emit(event_pb2.Event(usage=reported))


def _is_next(message: object) -> bool:
    """Whether the agent goes on with this. The rest of a streamed answer may come after its error message."""
    begins = isinstance(message, StreamEvent) and message.event.get("type") == "message_start"
    return begins or isinstance(message, AssistantMessage | UserMessage)


def _prompts(message: ResultMessage) -> list[str]:
    """Return the ids of the prompts that a result answers; none for a job of the CLI's own."""
    return [*(message.user_message_uuids or []), message.user_message_uuid or ""]
