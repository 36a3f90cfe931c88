"""What goes wrong at providers, as kinds that decide what is done about it and what the caller is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure, Reason

from llm_proxy.upstreams.error_body import NOTHING, told
from llm_proxy.upstreams.provider_words import (
    is_context,
    is_policy,
    most_output,
    refused_media,
    refuses_thinking,
    token_counts,
)

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
    "context": (errors_pb2.ERROR_REASON_CONTEXT_TOO_LONG, ""),
    "policy": (errors_pb2.ERROR_REASON_MODEL_REFUSED, "refuses the request for its content"),
    "image": (errors_pb2.ERROR_REASON_ATTACHMENT_UNSUPPORTED, ""),
    "document": (errors_pb2.ERROR_REASON_ATTACHMENT_UNSUPPORTED, ""),
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
        self.most_output = 0
        """Tokens that the answer may have, when the request asks for too many; 0 for any other failure."""
        self.refuses_thinking = False
        """Whether it refuses the thinking of earlier answers, which are understood without it."""
        # LiteLLM's router decides by this name whether a deployment has to rest.
        self.status_code = status or 503

    def to_failure(self, model: str) -> Failure:
        """Return what the caller is told."""
        reason, words = _REASONS[self.kind]
        status = f" ({self.status})" if self.status else ""
        said = f": {self.message}" if self.message else "."
        pause = timedelta(seconds=self.retry_after) if self.retry_after is not None else None
        failure = Failure(
            reason,
            self._for_claude_code(model) or f"The provider of {model} {words}{status}{said}",
            retry_after=pause,
            model=model,
            status=str(self.status),
        )
        if reason == errors_pb2.ERROR_REASON_ATTACHMENT_UNSUPPORTED:
            failure.metadata["kind"] = self.kind
        return failure

    def _for_claude_code(self, model: str) -> str:
        """Return the message in the words that Claude Code acts on, for what it can act on; else nothing.

        Claude Code 2.1.329 looks for "prompt is too long", with `N tokens > M maximum` where that is known,
        and compacts the conversation; for "could not process image" and "does not support PDF input" it takes
        the picture or document out of the history and goes on. It reads no other form of these errors, and
        without them each later prompt of the session fails as well. The status must be 400.
        """
        said = f"The provider says ({self.status}): {self.message or 'nothing'}"
        if self.kind == "context":
            counts = token_counts(self.message)
            sizes = f"prompt is too long: {counts[0]} tokens > {counts[1]} maximum" if counts else ""
            return (
                f"The {sizes or 'prompt is too long'} for {model}. Send a shorter prompt, start a new "
                f"session, or choose a model with a larger context window. {said}"
            )
        if self.kind == "image":
            return f"{model} could not process image input, so it refuses the request. {said}"
        if self.kind == "document":
            return f"{model} does not support PDF input, or not this document. Send its text instead. {said}"
        return ""


def from_status(
    status: int, message: str, headers: Mapping[str, str], media: frozenset[str] = frozenset()
) -> ProviderFailure:
    """Return the failure that an HTTP answer is. `media`: which of image and document the request has."""
    words = message.lower()
    failure = ProviderFailure(_kind(status, words, media), status, message, _retry_after(headers))
    if failure.kind in ("request", "context", "unavailable"):
        failure.most_output = most_output(words)
        failure.refuses_thinking = refuses_thinking(words)
    return failure


def _kind(status: int, words: str, media: frozenset[str]) -> str:
    """Return the kind of failure. What is said decides where it is clear, whatever the status."""
    if status in (400, 403, 404, 413, 415, 422) or (status >= 500 and status not in (503, 504, 529)):
        # Some servers answer 500 for what the request is refused for.
        if is_context(words):
            return "context"
        if media and refused_media(words, media):
            return refused_media(words, media)
        if is_policy(words):
            return "policy"
    if status == 429 and "request too large for" in words:
        # More tokens than are allowed in a minute: the same request is refused for ever.
        return "context"
    return _BY_STATUS.get(status) or (
        "request" if 400 <= status < 500 else "unavailable" if status >= 500 else "invalid"
    )


_BY_STATUS: Final[Mapping[int, str]] = {
    401: "credential",
    # The provider's account has no money left.
    402: "credential",
    403: "credential",
    404: "model",
    408: "timeout",
    413: "context",
    429: "rate",
    504: "timeout",
}


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


def from_event(error: Mapping[str, object], media: frozenset[str] = frozenset()) -> ProviderFailure:
    """Return the failure that an error in a stream is, in Anthropic's form or in OpenAI's."""
    status = _EVENT_STATUS.get(str(error.get("type", "")))
    if status is None:
        codes = (error.get(name) for name in ("code", "status", "status_code"))
        status = next((code for code in codes if isinstance(code, int) and 400 <= code < 600), 500)
    return from_status(status, told(json.dumps(error)) or NOTHING, {}, media)
