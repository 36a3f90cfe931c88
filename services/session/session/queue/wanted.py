"""What is asked of the queue, and with what was looked up for it: the rows that come of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from pointsman.session.v1 import event_pb2, turn_pb2, turn_service_pb2
from servicekit.agent_only import agent_only
from servicekit.interceptors.requests import check

from session import clock, names
from session.caller import Caller
from session.options import check_options, filled_in
from session.storage.rows import SessionRow
from session.storage.tables import QUEUED


@dataclass(frozen=True)
class Asked:
    """A request, and the ids that what it makes will have, however often it is tried."""

    caller: Caller
    account: str
    """The account that it names; empty where its session decides."""
    request: turn_service_pb2.EnqueueTurnRequest
    request_id: str
    body_hash: bytes
    session_id: str
    """Of the session that it names; empty for none."""
    turn_id: str
    fresh_session_id: str

    @classmethod
    def of(cls, caller: Caller, account: str, request: turn_service_pb2.EnqueueTurnRequest) -> Asked:
        """Return what a caller asks; Failure INVALID_FIELD for a name that is none."""
        return cls(
            caller=caller,
            account=account,
            request=request,
            request_id=names.request_id_of(request.request_id),
            body_hash=_body_hash(account, request),
            session_id=names.session_id_of(request.session, "session") if request.session else "",
            turn_id=names.new_id(),
            fresh_session_id=names.new_id(),
        )

    @property
    def makes_session(self) -> bool:
        """Whether it makes its session, whatever is there."""
        return not (self.request.session or self.request.newest_session)


@dataclass(frozen=True)
class Wanted:
    """A request with all that was looked up for it. `session` is None when it makes one."""

    asked: Asked
    account: str
    session: SessionRow | None
    model: str
    options: turn_pb2.TurnOptions

    @property
    def session_id(self) -> str:
        """The session that the turn is in."""
        return self.asked.fresh_session_id if self.session is None else self.session.id

    @property
    def route(self) -> turn_pb2.TurnRoute.ValueType:
        """How it is to be answered."""
        request = self.asked.request
        return turn_pb2.TURN_ROUTE_AGENT if self.agent_only else request.route or turn_pb2.TURN_ROUTE_AGENT

    @property
    def agent_only(self) -> str:
        """What makes a direct turn one for an agent: an option that came from its session; empty for none.

        The router does not know of those. Its own ones it has looked at.
        """
        direct = self.asked.request.route == turn_pb2.TURN_ROUTE_DIRECT
        return agent_only(self.options) if direct else ""

    def columns(self, key: int) -> dict[str, Any]:
        """Return the columns of the new turn, which waits; all but what the log and a claim tell."""
        request = self.asked.request
        return {
            "id": self.asked.turn_id,
            "session_id": self.session_id,
            "tenant": self.asked.caller.tenant,
            "account": self.account,
            "principal": self.asked.caller.principal,
            "request_id": self.asked.request_id,
            "body_hash": self.asked.body_hash,
            "prompt": request.prompt.encode(),
            "context": request.context.encode(),
            "model": self.model,
            "state": QUEUED,
            "route": int(self.route),
            "options": self.options.SerializeToString(),
            "may_escalate": int(request.may_escalate),
            "temporary": int(request.temporary),
            "position_key": key,
            "create_time": clock.now(),
        }

    def preface(self) -> list[event_pb2.Event]:
        """Return what is logged before the turn begins: nothing but the kinds of the request's events."""
        kinds = []
        for event in self.asked.request.preface:
            kind = event.WhichOneof("kind")
            if kind is not None:
                bare = event_pb2.Event()
                getattr(bare, kind).CopyFrom(getattr(event, kind))
                kinds.append(bare)
        if self.agent_only:
            decided = event_pb2.TriageDecided(
                route=turn_pb2.TURN_ROUTE_AGENT,
                decided_by="option",
                reason=f"Only agents have {self.agent_only}, which the session's template asks for.",
            )
            kinds.append(event_pb2.Event(triage_decided=decided))
        return kinds


def options_of(
    request: turn_service_pb2.EnqueueTurnRequest, session: SessionRow | None
) -> turn_pb2.TurnOptions:
    """Return a turn's options: its own, else those of its session's template, else the defaults.

    Raises Failure INVALID_FIELD for an output schema that is none, and for options of a template that was
    made before a rule that they break.
    """
    if session is None or not session.turn_options:
        options = filled_in(request.options)
    else:
        options = filled_in(request.options, session.default_options)
        check(options)
    check_options(options)
    return options


def _body_hash(account: str, request: turn_service_pb2.EnqueueTurnRequest) -> bytes:
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
