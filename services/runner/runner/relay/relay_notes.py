"""What llm-proxy tells us inside an answer: comment lines that are not for the sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

_PREFIX: Final = b": pointsman-"
_NOTE: Final = re.compile(rb"^: pointsman-(usage|retry|error) (\{[^\n]*\})\r?\n", re.MULTILINE)
# A note is a line of a few hundred bytes; what is longer is none.
_NOTE_BYTES: Final = 16 * 1024


class NoteFilter:
    """Passes a stream of server-sent events on, without the notes in it. Chunks may be cut anywhere.

    `note` is called with the note's kind, `usage`, `retry` or `error`, and its values, before what follows is
    passed.
    """

    def __init__(self, note: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._note = note
        self._held = b""
        self._at_line_start = True

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be passed on now."""
        data = self._held + chunk
        self._held = b""
        last = data.rfind(b"\n") + 1
        tail = data[last:]
        # Could the unfinished last line become a note?
        starts = tail[: len(_PREFIX)] == _PREFIX[: len(tail)] and (last > 0 or self._at_line_start)
        if tail and starts and len(tail) <= _NOTE_BYTES:
            data, self._held = data[:last], tail
        if data:
            passed = self._without_notes(data)
            self._at_line_start = data.endswith(b"\n")
            return passed
        return b""

    def end(self) -> bytes:
        """Return what was held back and turned out to be no note."""
        held, self._held = self._held, b""
        return held

    def _without_notes(self, data: bytes) -> bytes:
        if _PREFIX not in data:
            return data
        # `^` also matches at the start of what is only the rest of a line.
        start = 0 if self._at_line_start else data.find(b"\n") + 1
        return data[:start] + _NOTE.sub(self._take, data[start:])

    def _take(self, match: re.Match[bytes]) -> bytes:
        self._note(match[1].decode(), json.loads(match[2]))
        return b""
