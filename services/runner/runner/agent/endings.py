"""Endings that Claude Code makes up itself, each as a failure with its own reason.

Claude Code 2.1.329 reports most of them as a successful result with `is_error`, and its text advises what
only a person at its terminal can do. The values below are in the CLI's bundle, and were seen by running it:

- refusal: the result's `stop_reason` is `refusal`, after one more try;
- output limit: `error` of the last assistant message is `max_output_tokens`, after three tries to continue.
  With a text about the context window it stands for `model_context_window_exceeded`;
- the conversation is too long and cannot be compacted: `terminal_reason` is one of `_TOO_LONG`;
- media that the model does not take and that could not be removed: `terminal_reason` is `image_error`;
- a tool call that is cut at the output limit is answered with an error, until `max_turns` ends the turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from claude_agent_sdk import ResultMessage
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure, Reason

from runner.bounded import bounded_text, clean

_TOO_LONG: Final = frozenset({"prompt_too_long", "blocking_limit", "rapid_refill_breaker"})
# What a completed answer stops with although more was to come.
_CUTS: Final = ("max_tokens", "model_context_window_exceeded")


@dataclass(frozen=True)
class Said:
    """What the agent said before its result."""

    answer: str = ""
    """Its text since the last tool call, without its error messages."""
    error: str = ""
    """The kind of its last error message; empty when its last message was none."""


def result_failure(
    message: ResultMessage, *, refusal: Failure | None, model: str, error: str = ""
) -> Failure | None:
    """Return why the agent's result is no success; None when it is one."""
    if message.subtype == "success" and not message.is_error:
        return _incomplete(message.stop_reason, model)
    if message.subtype == "error_max_turns":
        return _max_turns(message, model)
    if message.stop_reason == "refusal" or error == "max_output_tokens":
        window = "context window" in clean(message.result)
        return _incomplete(_CUTS[window] if error == "max_output_tokens" else "refusal", model)
    if not _is_api_error(message):
        return _own_error(message)
    known = _BY_TERMINAL_REASON.get(message.terminal_reason or "")
    return refusal or (known(model) if known is not None else _provider_failure(message, error, model))


def _own_error(message: ResultMessage) -> Failure:
    said = "; ".join(clean(error) for error in (message.errors or [])[:5]) or clean(message.result)
    return Failure(
        errors_pb2.ERROR_REASON_AGENT_FAILED,
        f"The agent ended with an error: {bounded_text(said or message.subtype, 2048)[0]}",
    )


def _is_api_error(message: ResultMessage) -> bool:
    ended = message.terminal_reason
    return message.api_error_status is not None or ended == "api_error" or ended in _BY_TERMINAL_REASON


def _incomplete(stop_reason: str | None, model: str) -> Failure | None:
    if stop_reason == "refusal":
        return _refused(model)
    if stop_reason in _CUTS:
        return (_output_limit if stop_reason == "max_tokens" else _context_window)(model)
    if stop_reason == "pause_turn":
        return Failure(
            errors_pb2.ERROR_REASON_ANSWER_INCOMPLETE,
            f"{model} paused before its answer was complete. Send a prompt such as “continue”.",
            model=model,
            stop_reason="pause_turn",
        )
    return None


def _max_turns(message: ResultMessage, model: str) -> Failure:
    if message.stop_reason in _CUTS:
        return _output_limit(model)
    return Failure(
        errors_pb2.ERROR_REASON_MAX_TURNS_REACHED,
        "The agent used all its model calls before it was done. Send a prompt such as “continue”, or set a "
        "larger max_turns.",
    )


def _refused(model: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_MODEL_REFUSED,
        f"{model} declined to answer, or a content filter of its provider stopped the answer. Change the "
        "prompt, or choose another model.",
        model=model,
        stop_reason="refusal",
    )


def _output_limit(model: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_OUTPUT_TOKENS_REACHED,
        f"{model} reached its limit of output tokens several times, so the answer is incomplete. Ask for "
        "less at once, for example for one file or one section at a time.",
        model=model,
        stop_reason="max_tokens",
    )


def _context_window(model: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_CONTEXT_TOO_LONG,
        f"The context window of {model} is full, so the answer is incomplete. Start a new session, or choose "
        "a model with a larger context window.",
        model=model,
        stop_reason="model_context_window_exceeded",
    )


def _too_long(model: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_CONTEXT_TOO_LONG,
        f"The prompt is longer than {model} can read, and there is no earlier conversation to shorten. Send "
        "a shorter prompt, put long text into a file of the workspace, or choose a model with a larger "
        "context window.",
        model=model,
    )


def _media(model: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_ATTACHMENT_UNSUPPORTED,
        f"{model} does not take an image or a document that the agent read, or it is too large. Ask the "
        "agent to extract its text instead, or choose another model.",
        model=model,
        kind="image",
    )


def _unreadable_call(model: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_PROVIDER_RESPONSE_INVALID,
        f"{model} called a tool in a form that cannot be read, twice. Send the prompt again, or choose "
        "another model.",
        model=model,
    )


_BY_TERMINAL_REASON: Final[Mapping[str, Callable[[str], Failure]]] = {
    **dict.fromkeys(_TOO_LONG, _too_long),
    "image_error": _media,
    "malformed_tool_use_exhausted": _unreadable_call,
}
_BY_STATUS: Final[Mapping[int, Reason]] = {
    401: errors_pb2.ERROR_REASON_PROVIDER_CREDENTIAL_REFUSED,
    403: errors_pb2.ERROR_REASON_PROVIDER_CREDENTIAL_REFUSED,
    429: errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED,
}
_BY_ERROR: Final[Mapping[str, Reason]] = {
    "authentication_failed": errors_pb2.ERROR_REASON_PROVIDER_CREDENTIAL_REFUSED,
    "billing_error": errors_pb2.ERROR_REASON_PROVIDER_CREDENTIAL_REFUSED,
    "rate_limit": errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED,
    "invalid_request": errors_pb2.ERROR_REASON_PROVIDER_REQUEST_REFUSED,
    "model_not_found": errors_pb2.ERROR_REASON_PROVIDER_REQUEST_REFUSED,
    "server_error": errors_pb2.ERROR_REASON_PROVIDER_RESPONSE_INVALID,
}


def _provider_failure(message: ResultMessage, error: str, model: str) -> Failure:
    """Type an API error that came without a reason from llm-proxy."""
    status = message.api_error_status
    reason = _BY_STATUS.get(status or 0) or _BY_ERROR.get(error)
    if reason is None:
        refuses = status is not None and 400 <= status < 500
        reason = (
            errors_pb2.ERROR_REASON_PROVIDER_REQUEST_REFUSED
            if refuses
            else errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE
        )
    said = bounded_text(clean(message.result) or "no explanation", 2048)[0]
    return Failure(reason, f"The model could not be called: {said}", model=model, status=str(status or 0))
