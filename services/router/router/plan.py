"""What happens to a prompt between the caller and the queue: context is gathered, then triage decides."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import event_pb2, turn_pb2, turn_service_pb2
from servicekit.agent_only import agent_only
from servicekit.context import current_passport
from servicekit.errors import Failure

from router.context.gather import Context, Gathered, section
from router.context.provider import Occasion
from router.triage.decision import Decision, Outcome, Question
from router.triage.triage import Triage
from router.turns import Turns

_FORCED: Final = {
    turn_pb2.TURN_ROUTE_UNSPECIFIED: None,
    turn_pb2.TURN_ROUTE_DIRECT: Outcome.DIRECT,
    turn_pb2.TURN_ROUTE_AGENT: Outcome.AGENT,
}
_ROUTES: Final = {Outcome.DIRECT: turn_pb2.TURN_ROUTE_DIRECT, Outcome.AGENT: turn_pb2.TURN_ROUTE_AGENT}


class Planner:
    """Completes a turn before it is queued."""

    def __init__(self, context: Context, triage: Triage, turns: Turns) -> None:
        self._context = context
        self._triage = triage
        self._turns = turns

    @property
    def asks_others(self) -> bool:
        """Whether planning may look anything up, ask a model or refuse: what must not happen twice."""
        return bool(self._context.providers) or self._triage.asks_others

    async def complete(self, request: turn_service_pb2.EnqueueTurnRequest) -> None:
        """Add context, route and the events that tell of both.

        Raises Failure REFUSED_BY_POLICY, INVALID_FIELD for a direct turn that asks for what only agents have,
        or that of a provider without which the turn may not run.
        """
        _check_forced(request)
        account = await self._account(request)
        session = await self._session(request, account)
        gathered = await self._context.gather(_occasion(request, account, session))
        question = self._question(request, account, session, gathered)
        decision = await self._triage.decide(question, _FORCED[request.route])
        if decision.outcome is Outcome.REFUSE:
            raise Failure(
                errors_pb2.ERROR_REASON_REFUSED_BY_POLICY,
                decision.reason or "A policy of this installation refuses this prompt.",
                rule=decision.decided_by.removeprefix("rule:"),
            )
        # One call to the model, if it turns out to be too little, may become an agent, unless the caller
        # wants that one call.
        free = request.route == turn_pb2.TURN_ROUTE_UNSPECIFIED and self._triage.escalates
        request.may_escalate = free and decision.outcome is Outcome.DIRECT
        request.route = _ROUTES[decision.outcome]
        request.context = section(gathered)
        request.preface.extend([*map(_context_created, gathered), _triage_decided(decision)])

    async def _account(self, request: turn_service_pb2.EnqueueTurnRequest) -> str:
        """Return the account, asking for the session's only where a provider could want it."""
        if request.account or not self._context.providers:
            return request.account
        return await self._turns.account_of_session(request.session)

    async def _session(self, request: turn_service_pb2.EnqueueTurnRequest, account: str) -> str:
        """Return the session, looking up the account's newest only where a provider or a rule could want it.

        Which one it is, is settled when the turn is made: until then a newer one may come to be.
        """
        if request.newest_session and self.asks_others:
            return await self._turns.newest_session(account) or ""
        return request.session

    def _question(
        self,
        request: turn_service_pb2.EnqueueTurnRequest,
        account: str,
        session: str,
        gathered: Sequence[Gathered],
    ) -> Question:
        async def has_files() -> bool:
            return bool(session) and await self._turns.has_files(session)

        return Question(
            prompt=request.prompt,
            account=account,
            session=bool(request.session) or request.newest_session,
            tools=tuple(request.options.allowed_tools),
            context=frozenset(part.provider for part in gathered if part.text),
            agent_only=agent_only(request.options),
            has_files=has_files,
        )


def _occasion(request: turn_service_pb2.EnqueueTurnRequest, account: str, session: str) -> Occasion:
    caller = current_passport()
    return Occasion(
        tenant=caller.tenant,
        account=account,
        prompt=request.prompt,
        principal=caller.principal,
        session=session,
    )


def _check_forced(request: turn_service_pb2.EnqueueTurnRequest) -> None:
    option = agent_only(request.options)
    if request.route == turn_pb2.TURN_ROUTE_DIRECT and option:
        field, problem = f"options.{option}", "only agents have it: leave the route open, or ask for an agent"
        raise Failure(errors_pb2.ERROR_REASON_INVALID_FIELD, f"{field}: {problem}", fields=[(field, problem)])


def _context_created(part: Gathered) -> event_pb2.Event:
    return event_pb2.Event(
        context_created=event_pb2.ContextCreated(
            provider=part.provider,
            size_bytes=len(part.text.encode()),
            duration=_duration(part.seconds),
            error=part.failure.to_proto() if part.failure else None,
        )
    )


def _triage_decided(decision: Decision) -> event_pb2.Event:
    return event_pb2.Event(
        triage_decided=event_pb2.TriageDecided(
            route=_ROUTES[decision.outcome],
            decided_by=decision.decided_by,
            reason=decision.reason,
            confidence=decision.confidence,
            duration=_duration(decision.seconds),
            usage=decision.usage,
        )
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration
