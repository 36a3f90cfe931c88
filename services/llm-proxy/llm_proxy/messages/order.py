"""Puts the events of a provider's answer in order, and leaves out what is no part of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llm_proxy.messages.blocks import Blocks, Event
from llm_proxy.messages.ids import Ids
from llm_proxy.messages.usage import TokenUsage

# What other APIs call the reasons of this one, from servers that speak this API in part.
_STOP_REASONS: Final = {
    "stop": "end_turn",
    "eos": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "safety": "refusal",
}


class Order:
    """Reads events one by one. `take` returns those that take the place of one, None for itself."""

    def __init__(self, ids: Ids | None = None) -> None:
        self.usage = TokenUsage()
        self.counted = False
        """Whether the tokens of the answer came at its end; those at its beginning are not all."""
        self.started = False
        self.has_content = False
        self.stop_reason = ""
        self.finished = False
        self.error: dict[str, Any] | None = None
        self.pinged = False
        self.blocks = Blocks(ids)
        self._ids = ids

    def take(self, kind: str, data: dict[str, Any]) -> list[Event] | None:
        """Take in an event. Nothing takes the place of one that is no part of an answer."""
        if kind.startswith("content_block_"):
            return self._content(kind, data)
        if kind == "error":
            error = data.get("error")
            self.error = error if isinstance(error, dict) else {"message": error or data.get("message")}
            return []
        take = {"message_start": self._start, "message_delta": self._delta, "message": self._whole}.get(kind)
        if take is not None:
            return take(data)
        if kind == "ping":
            return self.ping()
        if kind != "message_stop":
            return []
        # Mostly there is nothing before it that is missing.
        return events if len(events := self.stop()) > 1 else None

    def ping(self) -> list[Event] | None:
        """Take note that the provider is there, without a word of the answer."""
        self.pinged = self.started
        return None if self.started else []

    def _content(self, kind: str, data: dict[str, Any]) -> list[Event] | None:
        take = {"start": self.blocks.begin, "delta": self.blocks.delta, "stop": self.blocks.stop}
        method = take.get(kind.removeprefix("content_block_"))
        if method is None:
            return []
        events = method(data)
        self.has_content = self.has_content or (kind == "content_block_delta" and events != [])
        if self.started or events == []:
            return events
        return [*self._started({}), *([(kind, data)] if events is None else events)]

    def _start(self, data: dict[str, Any]) -> list[Event] | None:
        if self.started:
            return []
        given = data.get("message")
        message = given if isinstance(given, dict) else {}
        events = self._started(message)
        return None if events == [("message_start", {"message": given})] else events

    def _started(self, message: Mapping[str, Any]) -> list[Event]:
        """Return the beginning of a message, with all fields that clients read."""
        self.started = True
        usage = message.get("usage")
        self._take_usage(usage)
        given_id = message.get("id")
        begun = {
            "id": given_id if isinstance(given_id, str) and given_id else "msg_unknown",
            "type": "message",
            "role": "assistant",
            "model": "",
            "stop_reason": None,
            "stop_sequence": None,
            **{name: value for name, value in message.items() if name != "id"},
            "content": [],
            "usage": usage if isinstance(usage, dict) else {"input_tokens": 0, "output_tokens": 0},
        }
        if self._ids is not None:
            begun["id"] = self._ids.message
        content = message.get("content")
        early = _block_events(content) if isinstance(content, list) else []
        return [("message_start", {"message": begun}), *self._ordered(early)]

    def _ordered(self, events: list[Event]) -> list[Event]:
        out: list[Event] = []
        for kind, data in events:
            taken = self._content(kind, data)
            out += [(kind, data)] if taken is None else taken
        return out

    def _delta(self, data: dict[str, Any]) -> list[Event] | None:
        if not data.get("delta") and not data.get("usage"):
            return []
        before = [] if self.started else self._started({})
        self._take_usage(data.get("usage"))
        usage = data.get("usage")
        if isinstance(usage, dict) and usage.get("output_tokens"):
            self.counted = True
        given = data.get("delta")
        delta = given if isinstance(given, dict) else {}
        reason = delta.get("stop_reason")
        if isinstance(reason, str) and reason:
            self.stop_reason = _STOP_REASONS.get(reason.lower(), reason)
            before += self.blocks.close()
        if not isinstance(usage, dict):
            usage = {"output_tokens": self.usage.output_tokens}
        ended = {
            **{name: value for name, value in data.items() if name != "type"},
            "delta": {"stop_sequence": None, **delta, "stop_reason": self.stop_reason or None},
            "usage": usage,
        }
        if not before and delta == ended["delta"] and usage == data.get("usage"):
            return None
        return [*before, ("message_delta", ended)]

    def stop(self) -> list[Event]:
        """End the message. Of an answer whose reason to stop was left out, the reason is what it holds."""
        events = self.blocks.close()
        if not self.stop_reason:
            reason = "tool_use" if self.blocks.tools else "end_turn"
            events += self._delta({"delta": {"stop_reason": reason, "stop_sequence": None}}) or []
        self.finished = True
        return [*events, ("message_stop", {})]

    def _whole(self, message: dict[str, Any]) -> list[Event]:
        """Return the events of a message that came in one piece although a stream was asked for."""
        if self.started or not isinstance(message.get("content"), list):
            return []
        reason = {"stop_reason": message.get("stop_reason"), "stop_sequence": message.get("stop_sequence")}
        events = [
            *self._started({**message, "stop_reason": None, "stop_sequence": None}),
            *(self._delta({"delta": reason, "usage": message.get("usage")}) or ()),
        ]
        if not any(kind == "message_delta" for kind, _ in events):
            events.append(("message_delta", {"delta": reason, "usage": message.get("usage")}))
        return [*events, *self.stop()]

    def _take_usage(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self.usage = self.usage.updated(usage)


def _block_events(content: list[Any]) -> list[Event]:
    events: list[Event] = []
    for index, block in enumerate(content):
        events.append(("content_block_start", {"index": index, "content_block": block}))
        events.append(("content_block_stop", {"index": index}))
    return events
