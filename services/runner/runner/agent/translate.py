"""From the agent SDK's messages to events: a pure function of a message and a little state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeGuard

import structlog
from claude_agent_sdk import (
    AssistantMessage,
    MirrorErrorMessage,
    StreamEvent,
    SystemMessage,
    TaskStartedMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from google.protobuf.duration_pb2 import Duration
from pointsman.session.v1 import event_pb2

from runner.bounded import bounded_struct, bounded_text, clean

_log = structlog.get_logger("runner.turns")

RESULT_BYTES: Final = 64 * 1024
"""Of a tool's result, and of any one string of a tool's input."""
# A block is text of one model call; the longest outputs are 128k tokens.
_BLOCK_BYTES: Final = 2 * 1024 * 1024

# Of one turn. The CLI runs at most some tens at once.
_SUB_AGENTS: Final = 10_000


@dataclass
class TranslateState:
    """What of earlier messages of the turn is needed to understand the next."""

    model: str = ""
    tool_ran: bool = False
    open_message: dict[str, str] = field(default_factory=dict)
    """The message being streamed, by the tool call of the sub-agent that streams it, '' for the agent."""
    open_block: dict[str, int] = field(default_factory=dict)
    """The block of that message that began last, by the same key."""
    blocks: dict[str, int] = field(default_factory=dict)
    """Blocks of each message that were finished; for messages that are not streamed."""
    answer: str = ""
    """What the agent, not a sub-agent, has written since its last tool call, as far as an event holds."""
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    """Characters of each open block that were sent."""
    heard: dict[tuple[str, int], int] = field(default_factory=dict)
    """Characters of each open block that the agent has told; never more than were sent."""
    callers: dict[str, str] = field(default_factory=dict)
    """Who made each tool call, by its id: the tool call of a sub-agent, '' for the agent."""
    sub_agents: dict[str, str] = field(default_factory=dict)
    """The tool call that began each sub-agent, by the CLI's id of it."""

    def caller(self, tool_use_id: str, agent_id: str) -> str:
        """Return the tool call of the sub-agent that made a call, '' for the agent itself.

        A hook can come before the message that has its call; then the CLI's id of the sub-agent tells.
        """
        return self.callers.get(tool_use_id) or self.sub_agents.get(agent_id, "")


def translate(message: object, state: TranslateState) -> list[event_pb2.Event]:
    """Return what a message says, in order; nothing for messages that say nothing to a client.

    The turn's end is not told here: see `outcome.py`. Never raises, whatever a message holds.
    """
    parent = clean(getattr(message, "parent_tool_use_id", None))
    if isinstance(message, StreamEvent):
        events = list(_stream(message.event, parent, state))
    elif isinstance(message, AssistantMessage):
        events = list(_assistant(message, parent, state))
    elif isinstance(message, UserMessage):
        events = list(_user(message, state))
    elif isinstance(message, TaskStartedMessage):
        if len(state.sub_agents) < _SUB_AGENTS:
            state.sub_agents[clean(message.task_id)] = clean(message.tool_use_id)
        return []
    elif isinstance(message, MirrorErrorMessage):
        events = [_not_kept(message)]
    elif isinstance(message, SystemMessage) and message.subtype == "api_retry":
        events = [_retry(message.data)]
    else:
        return []
    for event in events:
        event.parent_tool_use_id = parent
    return events


def _stream(raw: Any, parent: str, state: TranslateState) -> Iterator[event_pb2.Event]:
    kind = raw.get("type") if isinstance(raw, dict) else None
    if kind == "message_start" and isinstance(raw.get("message"), dict):
        state.open_message[parent] = clean(raw["message"].get("id"))
        state.open_block.pop(parent, None)
        state.model = clean(raw["message"].get("model")) or state.model
    if kind == "content_block_start" and _is_index(raw.get("index")):
        state.open_block[parent] = raw["index"]
    delta = raw.get("delta") if kind == "content_block_delta" else None
    index = raw.get("index") if kind == "content_block_delta" else None
    if not isinstance(delta, dict) or not _is_index(index):
        return
    key = (state.open_message.get(parent, ""), index)
    for kind in ("text", "thinking"):
        piece = clean(delta.get(kind))
        if delta.get("type") == f"{kind}_delta" and piece:
            start = state.heard.get(key, 0)
            state.heard[key] = start + len(piece)
            event = unsent(state, key, kind, piece, start)
            if event is not None:
                yield event


def _is_index(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and 0 <= value < 1 << 20


def unsent(
    state: TranslateState, key: tuple[str, int], kind: str, piece: str, start: int
) -> event_pb2.Event | None:
    """Return what of a piece was not sent yet, and note that it was; `start` is its place in its block.

    None when nothing is left of it, or when something before it is missing.
    """
    offset = state.offsets.get(key, 0)
    fresh = piece[offset - start :] if start <= offset else ""
    if not fresh:
        return None
    state.offsets[key] = offset + len(fresh)
    return (_text_delta if kind == "text" else _thinking_delta)(fresh, *key, offset)


def _text_delta(piece: str, message_id: str, block: int, offset: int) -> event_pb2.Event:
    delta = event_pb2.TextDelta(text=piece, message_id=message_id, block=block, offset=offset)
    return event_pb2.Event(text_delta=delta)


def _thinking_delta(piece: str, message_id: str, block: int, offset: int) -> event_pb2.Event:
    delta = event_pb2.ThinkingDelta(thinking=piece, message_id=message_id, block=block, offset=offset)
    return event_pb2.Event(thinking_delta=delta)


def _assistant(message: AssistantMessage, parent: str, state: TranslateState) -> Iterator[event_pb2.Event]:
    message_id = clean(message.message_id)
    state.model = clean(message.model) or state.model
    for block in message.content:
        index = _index(message, message_id, state)
        state.offsets.pop((message_id, index), None)
        state.heard.pop((message_id, index), None)
        if isinstance(block, ToolUseBlock):
            if not parent:
                state.answer = ""
            yield _tool_use(block, parent, state)
        elif isinstance(block, TextBlock | ThinkingBlock):
            text = clean(block.text) if isinstance(block, TextBlock) else ""
            thinking = clean(block.thinking) if isinstance(block, ThinkingBlock) else ""
            if text and not message.parent_tool_use_id and not message.error:
                state.answer = (state.answer + text)[:RESULT_BYTES]
            if text or thinking:
                said = event_pb2.AssistantMessage(
                    text=bounded_text(text, _BLOCK_BYTES)[0],
                    thinking=bounded_text(thinking, _BLOCK_BYTES)[0],
                    message_id=message_id,
                    block=index,
                    model=state.model,
                )
                yield event_pb2.Event(assistant_message=said)


def _index(message: AssistantMessage, message_id: str, state: TranslateState) -> int:
    """Return the number of the message's next finished block, the same one that its deltas have.

    The agent tells one finished block at a time, without its number, and does not tell all of them: an empty
    text is left out, and the SDK drops blocks that it does not know. So a streamed message's number is that
    of the block that began last. One that is not streamed has no deltas to agree with, and is counted.
    """
    parent = clean(message.parent_tool_use_id)
    streamed = state.open_message.get(parent) == message_id and len(message.content) == 1
    if streamed and parent in state.open_block:
        return state.open_block[parent]
    index = state.blocks.get(message_id, 0)
    state.blocks[message_id] = index + 1
    return index


def _tool_use(block: ToolUseBlock, parent: str, state: TranslateState) -> event_pb2.Event:
    use = event_pb2.ToolUse(id=clean(block.id), tool=clean(block.name))
    use.input.CopyFrom(bounded_struct(block.input, RESULT_BYTES))
    state.callers[use.id] = parent
    return event_pb2.Event(tool_use=use)


def _user(message: UserMessage, state: TranslateState) -> Iterator[event_pb2.Event]:
    if isinstance(message.content, str):
        return
    for block in message.content:
        if isinstance(block, ToolResultBlock):
            state.tool_ran = True
            text, cut = bounded_text(_content_text(block.content), RESULT_BYTES)
            result = event_pb2.ToolResult(
                tool_use_id=clean(block.tool_use_id),
                content=text,
                is_error=block.is_error is True,
                truncated=cut,
            )
            yield event_pb2.Event(tool_result=result)


def _content_text(content: Any) -> str:
    """Return a tool result's text; what is no text is named, as `[image]`."""
    if isinstance(content, str):
        return clean(content)
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "\n".join(clean(part.get("text")) or f"[{clean(part.get('type')) or 'unknown'}]" for part in parts)


def _not_kept(message: MirrorErrorMessage) -> event_pb2.Event:
    fault = bounded_text(clean(message.error), 1024)[0]
    said = f"A part of the conversation could not be stored: {fault}. After a restart the agent lacks it."
    _log.warning("transcript_lost", fault=fault)
    return event_pb2.Event(transcript_incomplete=event_pb2.TranscriptIncomplete(message=said))


def _retry(data: Any) -> event_pb2.Event:
    data = data if isinstance(data, dict) else {}
    delay = Duration()
    delay.FromTimedelta(timedelta(milliseconds=_number(data.get("retry_delay_ms"))))
    retry = event_pb2.ModelRetry(
        attempt=int(_number(data.get("attempt"))),
        max_attempts=int(_number(data.get("max_retries"))),
        delay=delay,
        status=int(_number(data.get("error_status"))),
        message=bounded_text(clean(data.get("error")), 1024)[0],
    )
    return event_pb2.Event(model_retry=retry)


def _number(value: Any) -> float:
    """Return a number that fits everywhere; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 31:
        return 0.0
    return float(value)
