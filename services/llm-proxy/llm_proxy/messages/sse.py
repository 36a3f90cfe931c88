"""Streams of the Messages API: writing their events, and reading what matters off them in passing."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from llm_proxy.messages.usage import TokenUsage

# The largest event is a block of a document; far above that, something is wrong with the sender.
_EVENT_LIMIT: Final = 16 * 1024 * 1024

# Most of a stream are deltas, one after another, whose data is of no interest here: they go by in one step.
_DELTAS: Final = re.compile(rb"(?:event: content_block_delta[^\n]*+\n(?:[^\n]++\n)*+\n)++")


def event(kind: str, **data: Any) -> bytes:
    """Return one event."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data}, separators=(',', ':'))}\n\n".encode()


class StreamReader:
    """Watches the bytes of a stream go by. Chunks may be cut anywhere, also inside a character."""

    def __init__(self) -> None:
        self.usage = TokenUsage()
        self.started = False
        """Whether the message has begun: from here on nothing can be tried again unseen."""
        self.has_content = False
        """Whether something of the answer itself has come."""
        self.stop_reason = ""
        self.finished = False
        """Whether the message came to its end."""
        self.error: dict[str, Any] | None = None
        """The error that the provider put into the stream."""
        self.pinged = False
        """Whether the provider has said, after the beginning, that it is still there."""
        self.broken = False
        """Whether what came is not a stream of events."""
        self.text_bytes = 0
        """Bytes of the events that carry the answer, for a guess at tokens where the count never came."""
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes."""
        data = self._rest + chunk
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        start = 0
        while True:
            deltas = _DELTAS.match(data, start)
            if deltas is not None:
                self.has_content = True
                self.text_bytes += deltas.end() - start
                start = deltas.end()
            end = data.find(b"\n\n", start)
            if end < 0:
                break
            self._read(data[start:end])
            start = end + 2
        self._rest = data[start:]
        if len(self._rest) > _EVENT_LIMIT:
            self.broken = True
            self._rest = b""

    def _read(self, raw: bytes) -> None:
        name = raw[:32]
        if name.startswith(b"event: content_block_"):
            # The frame of a block, or a delta without data.
            return
        if name.startswith(b"event: message_stop"):
            self.finished = True
        elif name.startswith(b"event: ping"):
            self.pinged = self.started
        elif name.startswith(b":") or not name.strip():
            return
        else:
            self._read_rare(raw)

    def _read_rare(self, raw: bytes) -> None:
        data = _data(raw)
        kind = data.get("type")
        if kind == "message_start":
            self.started = True
            message = data.get("message")
            self._take_usage(message.get("usage") if isinstance(message, dict) else None)
        elif kind == "message_delta":
            self._take_usage(data.get("usage"))
            delta = data.get("delta")
            if isinstance(delta, dict):
                self.stop_reason = str(delta.get("stop_reason") or self.stop_reason)
        elif kind == "message_stop":
            self.finished = True
        elif kind == "error":
            error = data.get("error")
            self.error = error if isinstance(error, dict) else {}
        elif kind == "content_block_delta":
            self.has_content = True
        elif not isinstance(kind, str):
            self.broken = True

    def _take_usage(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self.usage = self.usage.updated(usage)


def _data(raw: bytes) -> dict[str, Any]:
    lines = [line[5:].strip() for line in raw.split(b"\n") if line.startswith(b"data:")]
    try:
        data = json.loads(b"\n".join(lines))
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
