"""How often what is tried again: LiteLLM's `num_retries` and `retry_policy`, and another one's spelling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from llm_proxy.configuration.document import Document, Place, expect, mappings

DEFAULT_RETRIES: Final = 3

# LiteLLM's names, and the kinds of failure that they are about here.
_BY_KIND: Final[Mapping[str, str]] = {
    "BadRequestErrorRetries": "request",
    "AuthenticationErrorRetries": "credential",
    "NotFoundErrorRetries": "model",
    "TimeoutErrorRetries": "timeout",
    "RateLimitErrorRetries": "rate",
    "ContentPolicyViolationErrorRetries": "policy",
    "InternalServerErrorRetries": "unavailable",
    "ServiceUnavailableErrorRetries": "unavailable",
}

# Trying again helps with these; with others only when the file says so.
_TRANSIENT: Final = frozenset({"timeout", "rate", "unavailable", "invalid"})


@dataclass(frozen=True)
class RetryPolicy:
    """Attempts after the first, for each kind of failure."""

    default: int = DEFAULT_RETRIES
    by_kind: Mapping[str, int] = field(default_factory=dict)
    exponential: bool = True
    """Whether each pause is twice the one before."""

    def retries(self, kind: str) -> int:
        """Return how often a call that failed in this way may be tried again."""
        return self.by_kind.get(kind, self.default if kind in _TRANSIENT else 0)


def read_retry_policy(document: Document, values: Mapping[str, Any]) -> RetryPolicy:
    """Make the policy out of `num_retries` and `retry_policy`, each a pair of place and value.

    `max_retries`, `timeout` and `exponential_backoff` within `retry_policy` are not LiteLLM's, but clear:
    they are translated (`timeout` by `policy_timeout`).
    """
    default = DEFAULT_RETRIES
    if "num_retries" in values:
        default = _retries(document, *values["num_retries"])
    if "retry_policy" not in values:
        return RetryPolicy(default)
    place, policy = values["retry_policy"]
    by_kind: dict[str, int] = {}
    exponential = True
    for name, value in mappings(document, place, policy):
        where = (*place, name)
        if name in _BY_KIND:
            by_kind[_BY_KIND[name]] = _retries(document, where, value)
        elif name in ("max_retries", "DefaultRetries"):
            default = _retries(document, where, value)
        elif name == "exponential_backoff":
            exponential = expect(document, where, value, bool, "true or false")
        elif name == "timeout":
            _check_timeout(document, where, value)
        else:
            raise document.error(
                where,
                f"is not part of a retry policy; those are max_retries, timeout, exponential_backoff, "
                f"DefaultRetries, {', '.join(_BY_KIND)}",
            )
    return RetryPolicy(default, by_kind, exponential)


def policy_timeout(document: Document) -> float | None:
    """Return `retry_policy.timeout` in seconds, None when the file has none."""
    settings = document.data.get("router_settings") or {}
    policy = settings.get("retry_policy") or {} if isinstance(settings, dict) else {}
    value = policy.get("timeout") if isinstance(policy, dict) else None
    return float(value) if isinstance(value, (int, float)) else None


def _check_timeout(document: Document, place: Place, value: Any) -> None:
    if expect(document, place, value, (int, float), "a number of seconds") <= 0:
        raise document.error(place, "must be more than 0")


def _retries(document: Document, place: Place, value: Any) -> int:
    if not 0 <= expect(document, place, value, int, "a whole number from 0 to 20") <= 20:
        raise document.error(place, "must be a whole number from 0 to 20")
    return int(value)
