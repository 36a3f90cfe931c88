"""What models cost and how much they read, from LiteLLM's table or the operator's `model_info`.

The table is read as a file, which takes 30 ms; importing LiteLLM for it would take seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from llm_proxy.configuration.secrets import key_variables
from llm_proxy.ledger.money import Pico, of_a_call, pico
from llm_proxy.messages.usage import TokenUsage

_TABLE: Final = "model_prices_and_context_window_backup.json"

# Where a provider has a higher price above this many input tokens.
_LONG_TOKENS: Final = 200_000
_LONG: Final = "_above_200k_tokens"
# One of them is there when a model has a price, be it 0.
_PRICES: Final = ("input_cost_per_token", "output_cost_per_token")


@dataclass(frozen=True)
class ModelPrice:
    """Prices of one token, 0 when unknown or free, and limits in tokens, 0 when unknown."""

    input: Pico = 0
    output: Pico = 0
    cache_read: Pico = 0
    cache_write: Pico = 0
    long: ModelPrice | None = None
    """Prices of all tokens of a call that reads more than 200,000; None when they are the same."""
    context_window: int = 0
    max_output: int = 0
    tools: bool = True
    known: bool = False
    """Whether the prices are known. If not, they are 0, and no budget can be kept."""

    def cost(self, usage: TokenUsage) -> Pico:
        """Return what a call costs."""
        read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        price = self.long if self.long is not None and read > _LONG_TOKENS else self
        return of_a_call(
            price.input * usage.input_tokens
            + price.output * usage.output_tokens
            + price.cache_read * usage.cache_read_tokens
            + price.cache_write * usage.cache_write_tokens
        )

    def most(self, body_bytes: int, max_tokens: int) -> Pico:
        """Return an amount that a call with a body of this size hardly goes beyond.

        No tokenizer makes more than one token of a byte; three bytes for one is already pessimistic for JSON.
        """
        read = -(-body_bytes // 3)
        written = min(max_tokens, self.max_output) if self.max_output else max_tokens
        dearest = max(self.input, self.cache_write)
        return of_a_call(dearest * read + self.output * written)


class Prices:
    """The price table."""

    def __init__(self, table: Mapping[str, Mapping[str, Any]]) -> None:
        self._table = table

    @classmethod
    def from_litellm(cls) -> Prices:
        """Read the table that the installed LiteLLM brings."""
        spec = find_spec("litellm")
        if spec is None or spec.origin is None:
            raise FileNotFoundError("litellm is not installed")
        return cls(json.loads(Path(spec.origin).with_name(_TABLE).read_text()))

    def of(self, model: str, info: Mapping[str, Any]) -> ModelPrice:
        """Return a model's prices. The operator's `model_info` goes before the table, field by field.

        Models on servers of one's own, such as Ollama's, cost nothing unless the operator says otherwise.
        """
        provider, _, name = model.partition("/")
        entry = self._table.get(model)
        if entry is None:
            bare = self._table.get(name)
            entry = bare if bare is not None and bare.get("litellm_provider") == provider else {}
        known = not key_variables(provider) or any(name in {**entry, **info} for name in _PRICES)
        return _price({**entry, **info}, listed=bool(entry), known=known)


def _price(entry: Mapping[str, Any], *, listed: bool, known: bool) -> ModelPrice:
    has_long = any(name.endswith(_LONG) for name in entry)
    return replace(
        _tokens(entry, ""),
        long=_tokens(entry, _LONG) if has_long else None,
        context_window=int(entry.get("max_input_tokens") or entry.get("max_tokens") or 0),
        max_output=int(entry.get("max_output_tokens") or 0),
        tools=bool(entry.get("supports_function_calling", not listed)),
        known=known,
    )


def _tokens(entry: Mapping[str, Any], suffix: str) -> ModelPrice:
    def price(name: str, default: Pico) -> Pico:
        value = entry.get(name + suffix, entry.get(name))
        return default if value is None else pico(Decimal(str(value)))

    read = price("input_cost_per_token", 0)
    return ModelPrice(
        input=read,
        output=price("output_cost_per_token", 0),
        # A provider that names no price for its cache bills it as input.
        cache_read=price("cache_read_input_token_cost", read),
        cache_write=price("cache_creation_input_token_cost", read),
    )
