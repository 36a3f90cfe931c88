"""From what a caller asks for to a turn for the queue: one function for each way to ask."""

from __future__ import annotations

import uuid
from typing import Final

from pointsman.errors.v1 import errors_pb2
from pointsman.router.v1 import router_service_pb2
from pointsman.session.v1 import turn_pb2, turn_service_pb2
from servicekit.context import account_of
from servicekit.errors import Failure

_PERMISSION_MODES: Final = {
    "": turn_pb2.PERMISSION_MODE_UNSPECIFIED,
    "default": turn_pb2.PERMISSION_MODE_DEFAULT,
    "acceptEdits": turn_pb2.PERMISSION_MODE_ACCEPT_EDITS,
    "plan": turn_pb2.PERMISSION_MODE_PLAN,
    "bypassPermissions": turn_pb2.PERMISSION_MODE_BYPASS_PERMISSIONS,
}


def from_turn_request(
    request: router_service_pb2.StartTurnRequest | router_service_pb2.RunTurnRequest,
) -> turn_service_pb2.EnqueueTurnRequest:
    """Read StartTurn and RunTurn, which ask for the same."""
    return turn_service_pb2.EnqueueTurnRequest(
        session=request.session,
        account=turn_account(request.account, request.session),
        prompt=request.prompt,
        model=request.model,
        request_id=request.request_id,
        options=request.options if request.HasField("options") else None,
        busy_policy=request.busy_policy,
        route=request.route,
    )


def from_query(request: router_service_pb2.QueryRequest) -> turn_service_pb2.EnqueueTurnRequest:
    """Read Query."""
    options = turn_pb2.TurnOptions()
    options.CopyFrom(request.options)
    # Nobody sees the pieces: only the answer goes out.
    options.include_partial_messages = False
    return turn_service_pb2.EnqueueTurnRequest(
        session=request.session,
        account=turn_account(request.account_id, request.session),
        prompt=request.query,
        model=request.model,
        request_id=request.request_id,
        options=options,
        route=request.route,
    )


def from_message(request: router_service_pb2.SendMessageRequest) -> turn_service_pb2.EnqueueTurnRequest:
    """Read SendMessage, which goes to the account's newest session unless it names one."""
    return turn_service_pb2.EnqueueTurnRequest(
        session=request.session,
        newest_session=not request.session,
        account=turn_account(request.account_id, request.session),
        prompt=request.message,
        model=request.model,
        request_id=request.request_id,
        options=turn_pb2.TurnOptions(include_partial_messages=False),
    )


def from_agent_run(
    request: router_service_pb2.RunAgentRequest, session: str
) -> turn_service_pb2.EnqueueTurnRequest:
    """Read RunAgent, for the session that it names; empty when it names none.

    Then it goes on with the account's newest, or has one of its own, which is kept if it wants that.
    """
    newest = request.continue_session and not session
    options = turn_pb2.TurnOptions(
        permission_mode=_PERMISSION_MODES[request.permission_mode],
        allowed_tools=request.allowed_tools,
        system_prompt=request.system_prompt,
        append_system_prompt=request.append_system_prompt,
        include_partial_messages=request.verbose and wants_stream(request),
    )
    if request.HasField("max_turns"):
        options.max_turns = request.max_turns
    return turn_service_pb2.EnqueueTurnRequest(
        session=session,
        newest_session=newest,
        account=turn_account(request.account_id, session),
        prompt=request.prompt,
        model=request.model,
        request_id=request.request_id,
        options=options,
        # It asks for an agent by name.
        route=turn_pb2.TURN_ROUTE_AGENT,
        temporary=not session and not newest and not request.keep,
    )


def wants_stream(request: router_service_pb2.RunAgentRequest) -> bool:
    """Whether the caller wants events and not only the result: yes, unless it says no."""
    return request.stream if request.HasField("stream") else True


def turn_account(requested: str, session: str) -> str:
    """Return the account of a turn; empty where the session decides.

    Raises Failure ACCOUNT_PINNED when the credential is pinned to another account than the requested one.
    """
    account = account_of(requested)
    return "" if session and not requested else account


def session_named(given: str) -> str | None:
    """Return `sessions/{uuid}` for a UUID with or without `sessions/`; None when it is no UUID."""
    plain = given.removeprefix("sessions/")
    try:
        parsed = uuid.UUID(plain)
    except ValueError:
        return None
    return f"sessions/{parsed}" if str(parsed) == plain.lower() else None


def check_label(given: str) -> None:
    """Raise Failure INVALID_FIELD unless this can be a caller's own name for a session."""
    if not given.isascii() or not all(sign.isalnum() or sign in "._-" for sign in given):
        rule = "must be a session's UUID, or a name of letters, digits, '.', '_' and '-'"
        raise Failure(
            errors_pb2.ERROR_REASON_INVALID_FIELD, f"session_id: {rule}", fields=[("session_id", rule)]
        )
