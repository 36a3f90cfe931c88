"""Tokens of a call, and how they are read off an answer in passing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
        return TokenUsage(
            max(self.input_tokens, _count(usage.get("input_tokens"))),
            max(self.output_tokens, _count(usage.get("output_tokens"))),
            max(self.cache_read_tokens, _count(usage.get("cache_read_input_tokens"))),
            max(self.cache_write_tokens, _count(usage.get("cache_creation_input_tokens"))),
        )


# More than any call has; what a provider says beyond it is nonsense that must not harm the ledger.
_MOST_TOKENS: Final = 10**9


def _count(value: Any) -> int:
    """Return a count of tokens; 0 for what is none."""
    return min(value, _MOST_TOKENS) if type(value) is int and value > 0 else 0
