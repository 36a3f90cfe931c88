"""Streams of the Messages API: writing their events, and reading a provider's, which may be odd."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final

from llm_proxy.messages.blocks import Event
from llm_proxy.messages.ids import Ids
from llm_proxy.messages.order import Order
from llm_proxy.messages.usage import TokenUsage

# The largest event is a block of a document; far above that, something is wrong with the sender.
_EVENT_LIMIT: Final = 16 * 1024 * 1024
# Bytes of a delta's event that are not its text, without spaces in its JSON and with them.
_FRAME_BYTES: Final = (112, 123)
_CHARACTERS_PER_TOKEN: Final = 4

# Most of a stream are deltas of one block, one after another. As long as they are what they should be, they
# pass in one step, without being parsed. Halves of surrogate pairs are not.
_DELTAS: Final = (
    rb'(?:event: content_block_delta\ndata: ?\{"type": ?"content_block_delta", ?"index": ?%d, ?"delta": ?'
    rb'\{"type": ?"(?:text_delta", ?"text|thinking_delta", ?"thinking|input_json_delta", ?"partial_json)": ?'
    rb'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4})*+"\} *\} *\n\n)++'
)
# What an answer is made of; nothing of it may be left out.
_CONTENT: Final = ("content_block_", "message_")


def event(kind: str, /, **data: Any) -> bytes:
    """Return one event."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data}, separators=(',', ':'))}\n\n".encode()


@lru_cache(maxsize=64)
def _deltas(index: int) -> re.Pattern[bytes]:
    return re.compile(_DELTAS % index)


class StreamReader:
    """Reads a provider's stream, and returns it as the Messages API has it.

    Chunks may be cut anywhere, also inside a character. What is in order passes byte by byte. Fields that
    are missing are added, blocks get their numbers in the order in which they begin, and what is no part of
    an answer is left out: `[DONE]`, `id:` and `retry:`, unknown events, and all that follows the end. `ids`
    gives ids in place of the provider's own; None keeps those.
    """

    def __init__(self, ids: Ids | None = None) -> None:
        self.broken = False
        """Whether what came is not a stream of events."""
        self._order = Order(ids)
        self._text_bytes = 0
        self._rest = b""

    @property
    def usage(self) -> TokenUsage:
        """The tokens that the provider has reported so far."""
        return self._order.usage

    @property
    def counted(self) -> bool:
        """Whether the provider has reported the tokens of the whole answer."""
        return self._order.counted

    @property
    def started(self) -> bool:
        """Whether the message has begun: from here on nothing can be tried again unseen."""
        return self._order.started

    @property
    def has_content(self) -> bool:
        """Whether something of the answer itself has come."""
        return self._order.has_content

    @property
    def stop_reason(self) -> str:
        """Why the model stopped; empty as long as it has not."""
        return self._order.stop_reason

    @property
    def finished(self) -> bool:
        """Whether the message came to its end."""
        return self._order.finished

    @property
    def error(self) -> dict[str, Any] | None:
        """The error that the provider put into the stream."""
        return self._order.error

    @property
    def pinged(self) -> bool:
        """Whether the provider has said, after the beginning, that it is still there."""
        return self._order.pinged

    @property
    def guessed_tokens(self) -> int:
        """Tokens of the answer so far, guessed from its text, for where the count never came."""
        return -(-(self._text_bytes + self._order.blocks.characters) // _CHARACTERS_PER_TOKEN)

    def feed(self, chunk: bytes) -> bytes:
        """Read the next bytes, and return what may be passed on."""
        data = self._rest + chunk if self._rest else chunk
        if b"\r" in data:
            data = _with_newlines(data)
        out: list[bytes] = []
        start = 0
        while not self.finished:
            start = self._pass_deltas(data, start, out)
            end = data.find(b"\n\n", start)
            if end < 0:
                break
            out.append(self._read(data[start:end]))
            start = end + 2
        self._rest = b"" if self.finished else data[start:]
        if len(self._rest) > _EVENT_LIMIT:
            self.broken = True
            self._rest = b""
        return out[0] if len(out) == 1 else b"".join(out)

    def end(self) -> bytes:
        """Return what ends the stream when no more comes. An answer whose reason to stop came is whole."""
        rest, self._rest = self._rest.strip(), b""
        if self.finished:
            return b""
        broken = self.broken
        last = self._read(rest) if rest else b""
        # It may have been cut in the middle of an event.
        self.broken = broken
        if self.stop_reason and not self.finished and self.error is None:
            last += _written(self._order.stop())
        return last

    def _pass_deltas(self, data: bytes, start: int, out: list[bytes]) -> int:
        index = self._order.blocks.plain
        found = _deltas(index).match(data, start) if index is not None else None
        if found is None:
            return start
        passed = found[0]
        self._order.has_content = True
        frame = _FRAME_BYTES[b'"delta": ' in passed[:120]]
        self._text_bytes += max(0, len(passed) - frame * passed.count(b"\n\n"))
        out.append(passed)
        return found.end()

    def _read(self, frame: bytes) -> bytes:
        """Read one event, and return what is passed on of it."""
        name, raw, plain = _fields(frame)
        if not raw:
            # Only comments say that the provider is there.
            taken = self._order.ping() if frame.startswith(b":") else []
            return event("ping") if taken is None else b""
        if raw.strip() == b"[DONE]":
            return _written(self._order.stop()) if self.stop_reason else b""
        data = _parsed(raw)
        if data is None:
            self.broken = self.broken or name.startswith(_CONTENT) or raw.lstrip()[:1] == b"{"
            return b""
        kind = data.get("type")
        if not isinstance(kind, str):
            # OpenAI's API has errors without a type: {"error": {…}}.
            kind = "error" if data.get("error") else name
        taken = self._order.take(kind, data)
        if taken is not None:
            return _written(taken)
        return frame + b"\n\n" if plain and kind == name else _written([(kind, data)])


def _with_newlines(data: bytes) -> bytes:
    # At the end of a chunk it may be half of a line's end.
    half = b"\r" if data.endswith(b"\r") else b""
    return data[: len(data) - len(half)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + half


def _fields(frame: bytes) -> tuple[str, bytes, bool]:
    """Return an event's name, its data, and whether it has nothing else."""
    name, data, others = "", [], 0
    for line in frame.lstrip(b"\xef\xbb\xbf").split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value.decode("utf-8", "replace").strip()
        elif field == b"data":
            data.append(value)
        else:
            others += 1
    return name, b"\n".join(data), not others and len(data) == 1


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _written(events: list[Event]) -> bytes:
    return b"".join(event(kind, **{**data, "type": kind}) for kind, data in events)
