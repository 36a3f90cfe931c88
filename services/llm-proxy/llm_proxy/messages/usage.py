"""Tokens of a call, and how they are read off an answer in passing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final


@dataclass(frozen=True)
class TokenUsage:
    """Tokens of one call. `input_tokens` does not count the cached ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def updated(self, usage: Mapping[str, Any]) -> TokenUsage:
        """Return this with the counts of an Anthropic `usage` object put in; what it leaves out stays.

        Counts are of the whole call and only grow, so of an earlier and a later one the greater holds.
        """
        counts = {
            ours: max(min(value, _MOST_TOKENS), getattr(self, ours))
            for theirs, ours in _NAMES.items()
            if isinstance(value := usage.get(theirs), int) and not isinstance(value, bool) and value >= 0
        }
        return replace(self, **counts)


# More than any call has; what a provider says beyond it is nonsense that must not harm the ledger.
_MOST_TOKENS: Final = 10**9

_NAMES: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
}
