"""Counts the tool calls of a model's answers, while they go by.

Claude Code takes more than linear time to start calls that come together, those of sub-agents included, and
does not read its input meanwhile: 7 s for 1,000 calls, 43 s for 2,000. So their number is limited before it
sees them.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from typing import Final

TOOL_CALLS: Final = 1000
"""Of one message, and of all long messages of a turn within `WINDOW_SECONDS`."""
WINDOW_SECONDS: Final = 60.0
SHORT_CALLS: Final = 32
"""A message with no more calls than this is a short one. Those do not come near the limit: the agent ran 20
of 60 sub-agents that it was to start, and each waits for its calls before its next message."""
# Quotes inside of a string are escaped, so what a model writes about tool calls does not match. It is the
# same in a stream of events and in an answer that comes as one object.
_CALL: Final = re.compile(rb'"type"\s{0,8}:\s{0,8}"tool_use"')
# No shorter than the longest match.
_TAIL_BYTES: Final = 64


class TooManyToolCalls(Exception):  # noqa: N818 - what happened, not a kind of error
    """The model calls more tools than it may. The text names the limit, for a person."""


class RecentToolCalls:
    """The calls in long messages of one turn, as far back as the window goes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # At most as many entries as calls may be in it.
        self._added: deque[tuple[float, int]] = deque()
        self._calls = 0

    def add(self, calls: int) -> None:
        """Count calls. Raises TooManyToolCalls."""
        now = self._clock()
        while self._added and self._added[0][0] <= now - WINDOW_SECONDS:
            self._calls -= self._added.popleft()[1]
        self._added.append((now, calls))
        self._calls += calls
        if self._calls > TOOL_CALLS:
            raise TooManyToolCalls(
                f"The messages of the model in one turn, sub-agents included, may have {TOOL_CALLS:,} tool "
                f"calls within {WINDOW_SECONDS:g} seconds; messages with up to {SHORT_CALLS} do not count."
            )


class ToolCallCounter:
    """Counts the calls in one answer. Chunks may be cut anywhere. `recent` is the turn's."""

    def __init__(self, recent: RecentToolCalls) -> None:
        self._recent = recent
        self._tail = b""
        self._calls = 0

    def feed(self, chunk: bytes) -> None:
        """Count the calls in the next bytes. Raises TooManyToolCalls."""
        seen, data = len(self._tail), self._tail + chunk
        self._tail = data[-_TAIL_BYTES:]
        if b'"tool_use"' not in data:
            return
        before = self._calls
        self._calls += sum(match.end() > seen for match in _CALL.finditer(data))
        if self._calls > TOOL_CALLS:
            raise TooManyToolCalls(f"One message of the model may have {TOOL_CALLS:,} tool calls.")
        if self._calls > SHORT_CALLS and self._calls > before:
            self._recent.add(self._calls - (before if before > SHORT_CALLS else 0))
