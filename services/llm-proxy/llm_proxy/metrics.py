"""What is measured of calls to models."""

from __future__ import annotations

from functools import cache

from prometheus_client import Counter, Histogram

from llm_proxy.ledger.money import Pico, dollars
from llm_proxy.messages.usage import TokenUsage

# From the demo model to a long answer of a slow one.
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)

# Wildcards let callers invent names; beyond this many, a model is counted as `other`.
_MODELS_LIMIT = 200


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
        place = (self._label(model), deployment)
        self._calls.labels(*place, reason).inc()
        for kind in ("input", "output", "cache_read", "cache_write"):
            self._tokens.labels(*place, kind).inc(getattr(usage, f"{kind}_tokens"))
        self._cost.labels(*place).inc(dollars(cost))
        self._seconds.labels(*place).observe(seconds)
        if first_token is not None:
            self._first_token.labels(*place).observe(first_token)

    def _label(self, model: str) -> str:
        if model not in self._models and len(self._models) >= _MODELS_LIMIT:
            return "other"
        self._models.add(model)
        return model


@cache
def metrics() -> Metrics:
    """Return the process's metrics, made on first use: Prometheus' registry is the process's own."""
    return Metrics()
