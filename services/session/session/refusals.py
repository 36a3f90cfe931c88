"""The failures that several parts of the service answer with, in one wording each."""

from __future__ import annotations

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import turn_pb2
from servicekit.errors import Failure

from session import names


class LeaseLost(Exception):  # noqa: N818 - the domain's word
    """Another owner has the turn, or nobody has it any more. Nothing was written."""


def session_not_found(session_id: str) -> Failure:
    """Return the answer for a session that is not there, or not for this caller."""
    return Failure(
        errors_pb2.ERROR_REASON_SESSION_NOT_FOUND,
        f"There is no session {names.session_name(session_id)}. ListSessions shows those there are.",
    )


def template_not_found(name: str) -> Failure:
    """Return the answer for a template that is not there, or not for this caller or account."""
    return Failure(
        errors_pb2.ERROR_REASON_TEMPLATE_NOT_FOUND,
        f"There is no template {name!r}. ListTemplates shows those there are.",
    )


def turn_not_found(session_id: str, turn_id: str) -> Failure:
    """Return the answer for a turn that is not in its session."""
    return Failure(
        errors_pb2.ERROR_REASON_TURN_NOT_FOUND,
        f"There is no turn {names.turn_name(session_id, turn_id)}. ListTurns shows those there are.",
    )


def turn_not_queued(state: int) -> Failure:
    """Return the answer to a change of a turn that is past changing."""
    name = turn_pb2.TurnState.Name(turn_pb2.TurnState.ValueType(state)).removeprefix("TURN_STATE_")
    return Failure(
        errors_pb2.ERROR_REASON_TURN_NOT_QUEUED,
        f"The turn is {name}; only a turn that is QUEUED can be edited or moved.",
        state=name,
    )


def session_busy() -> Failure:
    """Return the answer while a session's workspace is copied or restored."""
    return Failure(
        errors_pb2.ERROR_REASON_SESSION_BUSY,
        "The session's workspace is being copied or restored right now. Try again in a moment.",
    )


def turn_running(session_id: str, turn_id: str) -> Failure:
    """Return the answer to what cannot be done while a turn runs."""
    return Failure(
        errors_pb2.ERROR_REASON_TURN_RUNNING,
        "A turn of this session is running. Wait for its end, or cancel it, and call again.",
        turn=names.turn_name(session_id, turn_id),
    )


def request_id_reused(request_id: str) -> Failure:
    """Return the answer to an id that came before with another body."""
    return Failure(
        errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        f"The request id {request_id} came before with another request. Take a new UUID for a new request.",
    )


def invalid_field(field: str, rule: str) -> Failure:
    """Return the answer to a field that breaks a rule."""
    return Failure(errors_pb2.ERROR_REASON_INVALID_FIELD, f"{field}: {rule}", fields=[(field, rule)])
