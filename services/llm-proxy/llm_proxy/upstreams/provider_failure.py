"""What goes wrong at providers, as kinds that decide what is done about it and what the caller is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure, Reason

# Providers repeat the request in their messages; a sentence or two is enough.
_MESSAGE_LIMIT: Final = 1_000

# A provider that asks for a longer pause is not waited for.
LONGEST_PAUSE_SECONDS: Final = 60.0

_REASONS: Final[Mapping[str, tuple[Reason, str]]] = {
    "credential": (
        errors_pb2.ERROR_REASON_PROVIDER_CREDENTIAL_REFUSED,
        "refuses the credential that Pointsman has for it; the operator has to renew it",
    ),
    "model": (errors_pb2.ERROR_REASON_PROVIDER_REQUEST_REFUSED, "does not have this model"),
    "request": (errors_pb2.ERROR_REASON_PROVIDER_REQUEST_REFUSED, "refuses the request"),
    "context": (
        errors_pb2.ERROR_REASON_PROVIDER_REQUEST_REFUSED,
        "refuses the request, because the conversation is longer than the model reads",
    ),
    "policy": (errors_pb2.ERROR_REASON_PROVIDER_REQUEST_REFUSED, "refuses the request for its content"),
    "rate": (errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED, "limits our rate"),
    "timeout": (errors_pb2.ERROR_REASON_PROVIDER_TIMED_OUT, "did not answer in time"),
    "unavailable": (
        errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
        "cannot be reached or says that it is overloaded",
    ),
    "invalid": (
        errors_pb2.ERROR_REASON_PROVIDER_RESPONSE_INVALID,
        "sent an answer that broke off or is not readable",
    ),
}

_CONTEXT_WORDS: Final = (
    "prompt is too long", "context length", "context_length", "context window", "maximum context",
    "too many tokens",
)  # fmt: skip
_POLICY_WORDS: Final = ("content policy", "content_policy", "content management policy", "content_filter")


class ProviderFailure(Exception):  # noqa: N818 - the domain's word, as in servicekit
    """A call to a provider failed. `status` is its HTTP status, 0 when there was none.

    `retry_after` is the pause in seconds that the provider asked for, None when it asked for none.
    """

    def __init__(
        self, kind: str, status: int = 0, message: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(kind, status)
        self.kind = kind
        self.status = status
        self.message = message[:_MESSAGE_LIMIT]
        self.retry_after = retry_after
        # LiteLLM's router decides by this name whether a deployment has to rest.
        self.status_code = status or 503

    def to_failure(self, model: str) -> Failure:
        """Return what the caller is told."""
        reason, words = _REASONS[self.kind]
        status = f" ({self.status})" if self.status else ""
        said = f": {self.message}" if self.message else "."
        pause = timedelta(seconds=self.retry_after) if self.retry_after is not None else None
        return Failure(
            reason,
            f"The provider of {model} {words}{status}{said}",
            retry_after=pause,
            model=model,
            status=str(self.status),
        )


def from_status(status: int, message: str, headers: Mapping[str, str]) -> ProviderFailure:
    """Return the failure that an HTTP answer is."""
    return ProviderFailure(_kind(status, message.lower()), status, message, _retry_after(headers))


def _kind(status: int, words: str) -> str:  # noqa: PLR0911 - a table of ranges
    if status in (401, 403):
        return "credential"
    if status == 404:
        return "model"
    if status == 429:
        return "rate"
    if status in (408, 504):
        return "timeout"
    if 400 <= status < 500:
        if any(word in words for word in _CONTEXT_WORDS):
            return "context"
        return "policy" if any(word in words for word in _POLICY_WORDS) else "request"
    return "unavailable" if status >= 500 else "invalid"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            value = float(headers[name]) * unit
        except (KeyError, ValueError):
            # Absent, or a date, which no provider of models sends.
            continue
        if 0 <= value < float("inf"):
            return value
    return None


# How Anthropic names in a stream what would have been a status.
_EVENT_STATUS: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "api_error": 500,
    "overloaded_error": 529,
}


def from_event(error: Mapping[str, object]) -> ProviderFailure:
    """Return the failure that an `error` event in a stream is."""
    status = _EVENT_STATUS.get(str(error.get("type", "")), 500)
    return from_status(status, str(error.get("message", "")), {})
