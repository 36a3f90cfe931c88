"""Counts the tool calls in one answer of a model, while the answer goes by.

Claude Code takes more than linear time to start the calls of one message, and does not read its input
meanwhile: 7 s for 1,000 calls, 43 s for 2,000. So the number of calls is limited before it sees them.
"""

from __future__ import annotations

import re
from typing import Final

TOOL_CALLS: Final = 1000
"""Of one message."""
# Quotes inside of a string are escaped, so what a model writes about tool calls does not match. It is the
# same in a stream of events and in an answer that comes as one object.
_CALL: Final = re.compile(rb'"type"\s{0,8}:\s{0,8}"tool_use"')
# No shorter than the longest match.
_TAIL_BYTES: Final = 64


class TooManyToolCalls(Exception):  # noqa: N818 - what happened, not a kind of error
    """The model calls more tools in one message than it may. The text names the limit, for a person."""


class ToolCallCounter:
    """Counts the calls in one answer. Chunks may be cut anywhere."""

    def __init__(self, limit: int = TOOL_CALLS) -> None:
        self._limit = limit
        self._tail = b""
        self._calls = 0

    def feed(self, chunk: bytes) -> None:
        """Count the calls in the next bytes. Raises TooManyToolCalls."""
        seen, data = len(self._tail), self._tail + chunk
        self._tail = data[-_TAIL_BYTES:]
        if b'"tool_use"' not in data:
            return
        self._calls += sum(match.end() > seen for match in _CALL.finditer(data))
        if self._calls > self._limit:
            raise TooManyToolCalls(f"One message of the model may have {self._limit:,} tool calls.")
