"""Why a model stopped before its answer was complete, as the failure that its turn ends with."""

from __future__ import annotations

from typing import Final

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import turn_pb2
from servicekit.errors import Failure

INCOMPLETE: Final = frozenset(
    {
        errors_pb2.ERROR_REASON_OUTPUT_TOKENS_REACHED,
        errors_pb2.ERROR_REASON_ANSWER_INCOMPLETE,
        errors_pb2.ERROR_REASON_CONTEXT_TOO_LONG,
    }
)
"""Reasons of turns whose result is the beginning of an answer, which the conversation goes on from."""


def incomplete(stop_reason: str, model: str, options: turn_pb2.TurnOptions) -> Failure | None:
    """Return the failure that a stop reason of the Messages API is; None for one of a complete answer."""
    match stop_reason:
        case "max_tokens":
            reason, message = errors_pb2.ERROR_REASON_OUTPUT_TOKENS_REACHED, _limit_reached(model, options)
        case "model_context_window_exceeded":
            reason = errors_pb2.ERROR_REASON_CONTEXT_TOO_LONG
            message = (
                f"The context window of {model} is full, so the answer is incomplete. Start a new session, "
                "or choose a model with a larger context window."
            )
        case "refusal":
            reason = errors_pb2.ERROR_REASON_MODEL_REFUSED
            message = (
                f"{model} declined to answer, or a content filter of its provider stopped the answer. Change "
                "the prompt, or choose another model."
            )
        case "pause_turn":
            reason = errors_pb2.ERROR_REASON_ANSWER_INCOMPLETE
            message = f"{model} paused before its answer was complete. Send a prompt such as “continue”."
        case _:
            return None
    return Failure(reason, message, model=model, stop_reason=stop_reason)


def _limit_reached(model: str, options: turn_pb2.TurnOptions) -> str:
    limit = (
        f"of {options.max_output_tokens} output tokens that max_output_tokens sets"
        if options.HasField("max_output_tokens")
        else "of output tokens"
    )
    larger = ", or set a larger max_output_tokens" if options.HasField("max_output_tokens") else ""
    return (
        f"{model} reached the limit {limit}, so the answer is incomplete. Send a prompt such as "
        f"“continue”{larger}."
    )
