"""Text that goes past the agent: from the model's answer, as it leaves the relay, straight to the turn.

The agent makes calls that are no part of the conversation, and only it knows which are. So a message's text
goes ahead once the agent has begun to tell of that message, by its id, and of a block only while the agent is
in it: what comes of it is in the order that the agent tells. The agent's own copy of what went ahead is
dropped, and whatever did not go ahead comes with that copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from claude_agent_sdk import AssistantMessage, StreamEvent
from pointsman.session.v1 import event_pb2

from runner.agent.translate import TranslateState, unsent
from runner.bounded import clean

# Characters of one call that wait for the agent, which is about a millisecond behind.
_WAITING: Final = 64 * 1024


class Ahead:
    """The model calls under way in a turn. `say` takes the events."""

    def __init__(self, state: TranslateState, say: Callable[[event_pb2.Event], None]) -> None:
        self._state = state
        self._say = say
        # As many as the relay lets through at once, at most.
        self._calls: dict[str, _Call] = {}

    def call(self) -> _Call:
        """Return what takes the text of a call that begins."""
        return _Call(self, self._state, self._say)

    def heard(self, message: object) -> None:
        """Take note of how far the agent is: it has told this message, and its events are said."""
        if isinstance(message, StreamEvent):
            raw: Any = message.event
            kind = raw.get("type") if isinstance(raw, dict) else None
            if kind in ("message_start", "content_block_start", "content_block_stop", "message_stop"):
                self._at(kind, raw, clean(message.parent_tool_use_id))
        elif isinstance(message, AssistantMessage):
            call = self._calls.get(clean(message.message_id))
            if call is not None:
                call.close()

    def _at(self, kind: str, raw: Any, parent: str) -> None:
        call = self._calls.get(self._state.open_message.get(parent, ""))
        if kind == "message_start":
            for other in self._calls.values():
                if other is not call and other.parent == parent:
                    # Its answer was cut, or is not wanted any more.
                    other.close()
            if call is not None and call.parent is None:
                call.parent = parent
                call.open(0)
        elif call is not None and call.parent == parent:
            if kind == "content_block_start":
                call.open(raw.get("index"))
            else:
                call.close()

    def began(self, message_id: str, call: _Call) -> bool:
        """Take in a call whose message begins; False when it cannot be told from another one."""
        if message_id in self._calls:
            self._calls[message_id].leave()
            return False
        self._calls[message_id] = call
        return True

    def ended(self, message_id: str, call: _Call) -> None:
        """Forget a call."""
        if self._calls.get(message_id) is call:
            del self._calls[message_id]


class _Call:
    """One call's text: see ModelText. It holds what the agent has not come to yet, of one block at most."""

    def __init__(self, ahead: Ahead, state: TranslateState, say: Callable[[event_pb2.Event], None]) -> None:
        self._ahead = ahead
        self._state = state
        self._say = say
        self.parent: str | None = None
        """The tool call of the sub-agent whose message it is, '' for the agent's; None while not known."""
        self._message_id = ""
        self._going = False
        self._open: Any = None
        """The block that the agent is in."""
        self._block = -1
        """The block that the model is in, and of it:"""
        self._kind = ""
        self._start = 0
        self._waiting = ""

    def begin(self, message_id: str) -> None:
        """See ModelText."""
        self._message_id = clean(message_id)
        self._going = self._ahead.began(self._message_id, self)

    def piece(self, block: int, kind: str, text: str) -> None:
        """See ModelText."""
        if block < self._block or (block == self._block and kind != self._kind):
            # No model answers so, and what the agent makes of it is not known.
            self.leave()
        if not self._going:
            return
        if block != self._block:
            # What waits of the block before comes with the agent's copy.
            self._block, self._kind, self._start, self._waiting = block, kind, 0, ""
        self._waiting += clean(text)
        if self._open == block:
            self._send()
        elif len(self._waiting) > _WAITING:
            self.leave()

    def end(self) -> None:
        """See ModelText."""
        self.leave()

    def open(self, block: Any) -> None:
        """The agent is in this block now."""
        self._open = block
        if self._going and self._waiting and self._block == block:
            self._send()

    def close(self) -> None:
        """The agent is in none of its blocks."""
        self._open = None

    def leave(self) -> None:
        """Send nothing more: the rest comes with the agent's copy."""
        if self._going:
            self._going = False
            self._waiting = ""
            self._ahead.ended(self._message_id, self)

    def _send(self) -> None:
        key = (self._message_id, self._block)
        event = unsent(self._state, key, self._kind, self._waiting, self._start)
        self._start += len(self._waiting)
        self._waiting = ""
        if event is not None:
            event.parent_tool_use_id = self.parent or ""
            self._say(event)
