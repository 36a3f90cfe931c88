"""What is measured of calls to models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from prometheus_client import Counter, Histogram

from llm_proxy.ledger.money import Pico, dollars
from llm_proxy.messages.usage import TokenUsage

# From the demo model to a long answer of a slow one.
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)

# Wildcards let callers invent names; beyond this many, a model is counted as `other`.
_MODELS_LIMIT = 200


@dataclass(frozen=True)
class _Place:
    """One model's metrics at one deployment: finding them by their labels costs more than counting."""

    input: Counter
    output: Counter
    cache_read: Counter
    cache_write: Counter
    cost: Counter
    seconds: Histogram
    first_token: Histogram


class Metrics:
    """Counters and histograms by model and deployment."""

    def __init__(self) -> None:
        by_place = ("model", "deployment")
        self._calls = Counter(
            "pointsman_llm_calls", "Calls to models, by how they ended.", (*by_place, "reason")
        )
        self._tokens = Counter("pointsman_llm_tokens", "Tokens of calls.", (*by_place, "kind"))
        self._cost = Counter("pointsman_llm_cost_usd", "What calls cost, in US dollars.", by_place)
        self._retries = Counter(
            "pointsman_llm_retries", "Attempts that were tried again.", (*by_place, "kind")
        )
        self._seconds = Histogram(
            "pointsman_llm_call_seconds", "From the request to its end.", by_place, buckets=_SECONDS
        )
        self._first_token = Histogram(
            "pointsman_llm_first_token_seconds",
            "From the request to the first token.",
            by_place,
            buckets=_SECONDS,
        )
        self._refusals = Counter(
            "pointsman_llm_refusals", "Calls that were not made, by reason.", ("reason",)
        )
        self._rests = Counter("pointsman_llm_cooldowns", "Times that a deployment had to rest.", by_place)
        self._cached = Counter("pointsman_llm_cache_hits", "Answers from memory.", ("model",))
        self._models: set[str] = set()
        self._places: dict[tuple[str, str], _Place] = {}

    def retried(self, model: str, deployment: str, kind: str) -> None:
        """Count an attempt that failed and is followed by another."""
        self._retries.labels(self._label(model), deployment, kind).inc()

    def rests(self, model: str, deployment: str) -> None:
        """Count a deployment that is not asked for a while because it failed."""
        self._rests.labels(self._label(model), deployment).inc()

    def cached(self, model: str) -> None:
        """Count an answer that was given from memory."""
        self._cached.labels(self._label(model)).inc()

    def refused(self, reason: str) -> None:
        """Count a call that was refused before any provider was asked."""
        self._refusals.labels(reason).inc()

    def finished(
        self,
        *,
        model: str,
        deployment: str,
        reason: str,
        usage: TokenUsage,
        cost: Pico,
        seconds: float,
        first_token: float | None,
    ) -> None:
        """Count a call that is over; `reason` is OK or why it failed."""
        labels = (self._label(model), deployment)
        self._calls.labels(*labels, reason).inc()
        place = self._places.get(labels)
        if place is None:
            place = self._places[labels] = self._place(labels)
        place.input.inc(usage.input_tokens)
        place.output.inc(usage.output_tokens)
        place.cache_read.inc(usage.cache_read_tokens)
        place.cache_write.inc(usage.cache_write_tokens)
        place.cost.inc(dollars(cost))
        place.seconds.observe(seconds)
        if first_token is not None:
            place.first_token.observe(first_token)

    def _place(self, labels: tuple[str, str]) -> _Place:
        return _Place(
            input=self._tokens.labels(*labels, "input"),
            output=self._tokens.labels(*labels, "output"),
            cache_read=self._tokens.labels(*labels, "cache_read"),
            cache_write=self._tokens.labels(*labels, "cache_write"),
            cost=self._cost.labels(*labels),
            seconds=self._seconds.labels(*labels),
            first_token=self._first_token.labels(*labels),
        )

    def _label(self, model: str) -> str:
        if model not in self._models and len(self._models) >= _MODELS_LIMIT:
            return "other"
        self._models.add(model)
        return model


@cache
def metrics() -> Metrics:
    """Return the process's metrics, made on first use: Prometheus' registry is the process's own."""
    return Metrics()
