"""Blocks of text that are being written: their pieces are sent live and never logged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pointsman.session.v1 import event_pb2

Key = tuple[str, int, str]
"""Message, block, and the kind of delta."""

_TEXT_FIELDS: Final = {"text_delta": "text", "thinking_delta": "thinking"}


def delta_key(event: event_pb2.Event) -> Key | None:
    """Return which block a piece belongs to; None for an event that is no piece."""
    kind = event.WhichOneof("kind")
    if kind == "text_delta":
        return event.text_delta.message_id, event.text_delta.block, kind
    if kind == "thinking_delta":
        return event.thinking_delta.message_id, event.thinking_delta.block, kind
    return None


def _piece(event: event_pb2.Event, kind: str) -> tuple[str, int]:
    delta = getattr(event, kind)
    return getattr(delta, _TEXT_FIELDS[kind]), delta.offset


def _with_piece(event: event_pb2.Event, kind: str, text: str, offset: int) -> event_pb2.Event:
    copy = event_pb2.Event()
    copy.CopyFrom(event)
    delta = getattr(copy, kind)
    setattr(delta, _TEXT_FIELDS[kind], text)
    delta.offset = offset
    return copy


def joined(first: event_pb2.Event, second: event_pb2.Event) -> event_pb2.Event | None:
    """Return one piece for two that follow on each other; None when they do not."""
    key = delta_key(second)
    if key is None or delta_key(first) != key:
        return None
    text, offset = _piece(first, key[2])
    more, more_offset = _piece(second, key[2])
    if more_offset != offset + len(text):
        return None
    return _with_piece(second, key[2], text + more, offset)


@dataclass
class _Block:
    newest: event_pb2.Event
    parts: list[str]
    length: int


class Blocks:
    """A session's blocks that are being written, with all of their text so far."""

    def __init__(self) -> None:
        self._blocks: dict[Key, _Block] = {}

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def extend(self, event: event_pb2.Event) -> event_pb2.Event | None:
        """Take a piece in and return what of it is new; None when nothing is, or when a piece is missing."""
        key = delta_key(event)
        if key is None:
            return None
        text, offset = _piece(event, key[2])
        block = self._blocks.setdefault(key, _Block(event, [], 0))
        if offset > block.length:
            # The middle was lost. The whole block follows when it is finished.
            return None
        known = block.length - offset
        if known:
            text = text[known:]
            event = _with_piece(event, key[2], text, block.length)
        if not text:
            return None
        block.newest = event
        block.parts.append(text)
        block.length += len(text)
        return event

    def finish(self, event: event_pb2.Event) -> None:
        """Forget the blocks that an event of the log completes."""
        kind = event.WhichOneof("kind")
        if kind == "assistant_message":
            message = event.assistant_message
            for delta_kind in _TEXT_FIELDS:
                self._blocks.pop((message.message_id, message.block, delta_kind), None)
        elif kind == "turn_finished":
            self._blocks.clear()

    def snapshot(self) -> list[event_pb2.Event]:
        """Return each block as one piece from offset 0."""
        pieces = []
        for key, block in self._blocks.items():
            text = "".join(block.parts)
            block.parts = [text]
            pieces.append(_with_piece(block.newest, key[2], text, 0))
        return pieces
