"""The decision: the caller's word, else the first rule that fits, else the small model, else the default."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal

import structlog
from pydantic import BaseModel, ConfigDict
from servicekit.errors import Failure

from router.triage.classifier import Classifier, ClassifierSettings
from router.triage.decision import Decision, Outcome, Question
from router.triage.rules import Rule

_log = structlog.get_logger("router.triage")

_DEFAULTS: Final = {"direct": Outcome.DIRECT, "agent": Outcome.AGENT}


class TriageSettings(BaseModel):
    """The section `triage`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...] = ()
    """Asked in order."""
    model: ClassifierSettings | None = None
    """The small model that is asked when no rule fits. Default: none is."""
    default: Literal["direct", "agent"] = "agent"
    """What becomes of the rest."""
    escalate: bool = True
    """Whether a direct answer that turns out to need tools goes on as an agent."""


class Triage:
    """Decides."""

    def __init__(
        self,
        settings: TriageSettings,
        classifier: Classifier | None,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._settings = settings
        self._classifier = classifier
        self._clock = clock

    @property
    def escalates(self) -> bool:
        """Whether a direct answer may go on as an agent."""
        return self._settings.escalate

    @property
    def asks_others(self) -> bool:
        """Whether a decision may take a look at a workspace or a word of a model, or be a refusal."""
        return self._classifier is not None or any(
            rule.outcome is Outcome.REFUSE or rule.when.files is not None for rule in self._settings.rules
        )

    async def decide(self, question: Question, forced: Outcome | None = None) -> Decision:
        """Decide. A refusal holds whatever the caller forces; a triage model that fails decides nothing."""
        begun = self._clock()
        decision = await self._decide(question, forced)
        return replace(decision, seconds=self._clock() - begun)

    async def _decide(self, question: Question, forced: Outcome | None) -> Decision:
        for rule in self._settings.rules:
            # The caller's word takes the place of every rule but those that refuse.
            skipped = forced is not None and rule.outcome is not Outcome.REFUSE
            if not skipped and await rule.when.holds(question):
                if rule.outcome is Outcome.DIRECT and question.agent_only:
                    break
                return Decision(rule.outcome, f"rule:{rule.name}", rule.reason)
        if forced is not None:
            return Decision(forced, "caller", "The caller asked for it.")
        if question.agent_only:
            return Decision(Outcome.AGENT, "option", f"Only agents have {question.agent_only}.")
        return await self._ask(question) or Decision(
            _DEFAULTS[self._settings.default], "default", "Nothing else decided.", confidence=0.5
        )

    async def _ask(self, question: Question) -> Decision | None:
        if self._classifier is None:
            return None
        try:
            decision = await self._classifier.classify(question.prompt, question.account)
        except Failure as failure:
            _log.warning("triage model failed", reason=failure.reason_name)
            return None
        return decision if decision.confidence >= self._classifier.settings.min_confidence else None
