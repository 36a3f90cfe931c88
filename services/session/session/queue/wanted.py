"""What is asked of the queue, with all that was looked up for it, and the row that comes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pointsman.runner.v1 import runner_service_pb2
from pointsman.session.v1 import event_pb2, turn_pb2, turn_service_pb2
from servicekit.agent_only import agent_only

from session import clock
from session.caller import Caller
from session.storage.rows import SessionRow, TurnRow
from session.storage.tables import QUEUED


@dataclass(frozen=True)
class Wanted:
    """A request with all that was looked up for it."""

    caller: Caller
    request: turn_service_pb2.EnqueueTurnRequest
    request_id: str
    body_hash: bytes
    session_id: str
    is_new: bool
    """Whether the turn makes its session."""
    account: str
    model: str
    options: turn_pb2.TurnOptions
    sandbox: runner_service_pb2.SandboxSettings | None
    """What its sandbox will have; None for nothing."""
    next_to_run: bool
    """Whether its account had a place free a moment ago."""

    @property
    def route(self) -> int:
        """How it is to be answered."""
        asked = self.request.route or turn_pb2.TURN_ROUTE_AGENT
        return turn_pb2.TURN_ROUTE_AGENT if self.agent_only else asked

    @property
    def agent_only(self) -> str:
        """What makes a direct turn one for an agent: an option that came from its session; empty for none.

        The router does not know of those. Its own ones it has looked at.
        """
        direct = self.request.route == turn_pb2.TURN_ROUTE_DIRECT
        return agent_only(self.options) if direct else ""


@dataclass(frozen=True)
class Busy:
    """A session before the new turn: None when it is new, and its turns that run or wait."""

    session: SessionRow | None
    active: Sequence[TurnRow]


def columns(
    wanted: Wanted, turn_id: str, key: int, position: int, logged: Sequence[event_pb2.Event]
) -> dict[str, object]:
    """Return the columns of the new turn, whose first events are in the log."""
    return {
        "id": turn_id,
        "session_id": wanted.session_id,
        "tenant": wanted.caller.tenant,
        "account": wanted.account,
        "principal": wanted.caller.principal,
        "request_id": wanted.request_id,
        "body_hash": wanted.body_hash,
        "prompt": wanted.request.prompt.encode(),
        "context": wanted.request.context.encode(),
        "model": wanted.model,
        "state": QUEUED,
        "route": wanted.route,
        "options": wanted.options.SerializeToString(),
        "may_escalate": int(wanted.request.may_escalate),
        "temporary": int(wanted.request.temporary),
        "position_key": key,
        "told_position": position,
        "create_time": clock.now(),
        "first_sequence": logged[0].sequence,
        "last_sequence": logged[-1].sequence,
    }


def preface_of(wanted: Wanted) -> list[event_pb2.Event]:
    """Return what is logged before the turn begins: nothing but the kinds of the request's events."""
    kinds = []
    for event in wanted.request.preface:
        kind = event.WhichOneof("kind")
        if kind is not None:
            bare = event_pb2.Event()
            getattr(bare, kind).CopyFrom(getattr(event, kind))
            kinds.append(bare)
    if wanted.agent_only:
        decided = event_pb2.TriageDecided(
            route=turn_pb2.TURN_ROUTE_AGENT,
            decided_by="option",
            reason=f"Only agents have {wanted.agent_only}, which the session's template asks for.",
        )
        kinds.append(event_pb2.Event(triage_decided=decided))
    return kinds


def body_hash_of(account: str, request: turn_service_pb2.EnqueueTurnRequest) -> bytes:
    """Return what a repeated request is compared by: what the caller said, not what the router found out."""
    body = turn_service_pb2.EnqueueTurnRequest(
        session=request.session,
        account=account,
        prompt=request.prompt,
        model=request.model,
        options=request.options,
        busy_policy=request.busy_policy,
        temporary=request.temporary,
        newest_session=request.newest_session,
    )
    return hashlib.sha256(body.SerializeToString(deterministic=True)).digest()
