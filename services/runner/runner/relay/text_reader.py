"""Reads text off a stream of the Messages API while it goes by, for those who should have it soonest."""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

# Of one event that is read. Pieces of text have some hundred bytes; nothing longer is text that hurries.
_EVENT_BYTES: Final = 64 * 1024
_ID_CHARACTERS: Final = 256
_BLOCKS: Final = 1 << 20


class ModelText(Protocol):
    """Takes what is read off one call's answer."""

    def begin(self, message_id: str) -> None:
        """Take note that the message with this id begins. Comes first, and once."""
        ...

    def piece(self, block: int, kind: str, text: str) -> None:
        """Take the next piece of a block, of kind `text` or `thinking`."""
        ...

    def end(self) -> None:
        """Nothing more comes."""
        ...


class TextReader:
    """Reads one answer. Chunks may be cut anywhere; what is not understood ends the reading, without a word.

    `end` must be called.
    """

    def __init__(self, out: ModelText) -> None:
        self._out = out
        self._rest = b""
        self._begun = False
        self._reading = True

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes."""
        if not self._reading:
            return
        data = self._rest + chunk
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        *events, self._rest = data.split(b"\n\n")
        try:
            for event in events:
                self._read(event)
        except (ValueError, TypeError, KeyError, RecursionError):
            self.end()
        if len(self._rest) > _EVENT_BYTES:
            self.end()

    def end(self) -> None:
        """Nothing more is read."""
        if self._reading:
            self._reading = False
            self._rest = b""
            self._out.end()

    def _read(self, event: bytes) -> None:
        if len(event) > _EVENT_BYTES:
            raise ValueError
        lines = [line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
        if not lines:
            return
        # Strictly: what is no UTF-8 would be counted differently by another reader.
        data = json.loads(b"\n".join(lines).decode())
        kind = data["type"]
        if kind == "content_block_delta":
            self._piece(data)
        elif kind == "message_start":
            message_id = data["message"]["id"]
            if self._begun or not isinstance(message_id, str) or not 0 < len(message_id) <= _ID_CHARACTERS:
                raise ValueError
            self._begun = True
            self._out.begin(message_id)

    def _piece(self, data: Any) -> None:
        delta, block = data["delta"], data["index"]
        kind = delta["type"]
        if kind not in ("text_delta", "thinking_delta"):
            return
        name = kind.removesuffix("_delta")
        text = delta[name]
        if not self._begun or not isinstance(text, str) or not isinstance(block, int):
            raise ValueError
        if not 0 <= block < _BLOCKS:
            raise ValueError
        self._out.piece(block, name, text)
