"""The content blocks of a streamed answer, put in order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from llm_proxy.messages.ids import Ids

Event = tuple[str, dict[str, Any]]
"""An event's type, and its other fields."""

# Where a delta of a type has its content.
_FIELDS: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}
# What a delta without a block before it begins.
_OPENS: Final[Mapping[str, Mapping[str, Any]]] = {
    "text_delta": {"type": "text", "text": ""},
    "thinking_delta": {"type": "thinking", "thinking": "", "signature": ""},
}
# What a block has when it begins; whatever it brings with it becomes a delta, which every client reads.
_EMPTY: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
}
_DELTA_OF: Final = {"text": "text_delta", "thinking": "thinking_delta", "signature": "signature_delta"}
_HIGH_HALVES: Final = ("\ud800", "\udbff")


class Blocks:
    """Which blocks are open, and the numbers that they have.

    Numbers are given in the order in which blocks begin, so that they agree with the content of the whole
    message. Each method returns the events that take the place of one, None for the event as it is.
    """

    def __init__(self, ids: Ids | None = None) -> None:
        self.characters = 0
        """Of the answer, as far as it was parsed."""
        self.begun = 0
        """How many blocks have begun."""
        self.tools = False
        """Whether a block is a tool call."""
        self.plain: int | None = None
        """A block that is open and whose deltas need no care, since its number is its own."""
        self._ids = ids
        self._open: dict[Any, int] = {}
        """Numbers of open blocks, by the numbers that the provider gave them, None where it gave none."""
        self._half: tuple[int, str, str] | None = None
        """Block, delta type and text: the first half of a surrogate pair, which the next delta completes."""

    def begin(self, data: Mapping[str, Any]) -> list[Event] | None:
        """Take a `content_block_start`."""
        block, given = data.get("content_block"), _number(data)
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            return []
        before = self._release()
        if given in self._open:
            before.append(_stop(self._open.pop(given)))
        number = self._open[given] = self.begun
        self.begun += 1
        self.plain = number if given == number else None
        started, content = self._completed(block)
        if not before and not content and started == block and given == number:
            return None
        return [
            *before,
            ("content_block_start", {"index": number, "content_block": started}),
            *(("content_block_delta", {"index": number, "delta": delta}) for delta in content),
        ]

    def _completed(self, block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return a block as it begins, and deltas with what it brought along."""
        kind = block["type"]
        started = {**block, **_EMPTY.get(kind, {})}
        content = [
            {"type": delta, field: block[field]}
            for field, delta in _DELTA_OF.items()
            if field in _EMPTY.get(kind, {}) and isinstance(block.get(field), str) and block[field]
        ]
        if kind == "tool_use":
            self.tools = True
            started |= {"name": str(block.get("name", "")), "id": self._tool_id(block.get("id"))}
            if block.get("input"):
                content.append({"type": "input_json_delta", "partial_json": _json(block["input"])})
        self.characters += sum(len(delta[_FIELDS[delta["type"]]]) for delta in content)
        return started, content

    def _tool_id(self, given: Any) -> str:
        return self._ids.tool(given) if self._ids is not None else str(given or "")

    def delta(self, data: Mapping[str, Any]) -> list[Event] | None:
        """Take a `content_block_delta`."""
        delta = data.get("delta")
        kind = delta.get("type") if isinstance(delta, dict) else None
        field = _FIELDS.get(str(kind))
        if not isinstance(delta, dict) or (field is None and kind != "citations_delta"):
            return []
        if field is not None and not isinstance(delta.get(field), str):
            return []
        opened = self._opened(data, str(kind))
        if opened is None:
            return []
        before, number = opened
        if field is None:
            return [*before, ("content_block_delta", {"index": number, "delta": delta})]
        return self._text(before, number, {**delta, "type": str(kind)}, field, _number(data) == number)

    def _opened(self, data: Mapping[str, Any], kind: str) -> tuple[list[Event], int] | None:
        """Return the number of the block that a delta is of, after events that begin it; None without one."""
        given = _number(data)
        if given in self._open:
            return [], self._open[given]
        if given is None and self._open:
            return [], max(self._open.values())
        if kind not in _OPENS:
            return None
        begun = self.begin({"index": given, "content_block": dict(_OPENS[kind])})
        number = self._open[given]
        if begun is None:
            begun = [("content_block_start", {"index": number, "content_block": dict(_OPENS[kind])})]
        return begun, number

    def _text(
        self, before: list[Event], number: int, delta: dict[str, Any], field: str, same: bool
    ) -> list[Event] | None:
        text = delta[field]
        if self._half is not None and self._half[:2] == (number, delta["type"]):
            text, self._half = self._half[2] + text, None
        before = [*before, *self._release()]
        if text and _HIGH_HALVES[0] <= text[-1] <= _HIGH_HALVES[1]:
            self._half, text = (number, delta["type"], text[-1]), text[:-1]
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        self.plain = number if same and self._half is None else None
        self.characters += len(text)
        if not before and same and text == delta[field]:
            return None
        if not text:
            return before
        return [*before, ("content_block_delta", {"index": number, "delta": {**delta, field: text}})]

    def stop(self, data: Mapping[str, Any]) -> list[Event] | None:
        """Take a `content_block_stop`."""
        given = _number(data)
        if given not in self._open:
            return []
        before = self._release()
        number = self._open.pop(given)
        self.plain = None
        return None if not before and number == given else [*before, _stop(number)]

    def close(self) -> list[Event]:
        """Return what ends all blocks that are open."""
        events = [*self._release(), *(_stop(number) for number in sorted(self._open.values()))]
        self._open.clear()
        self.plain = None
        return events

    def _release(self) -> list[Event]:
        """Return half of a surrogate pair that nothing completed, as the sign for what cannot be shown."""
        if self._half is None:
            return []
        (number, kind, _), self._half = self._half, None
        return [("content_block_delta", {"index": number, "delta": {"type": kind, _FIELDS[kind]: "\ufffd"}})]


def _number(data: Mapping[str, Any]) -> int | None:
    number = data.get("index")
    return number if type(number) is int else None


def _stop(number: int) -> Event:
    return "content_block_stop", {"index": number}


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
