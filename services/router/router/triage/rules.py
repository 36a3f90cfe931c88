"""Rules: conditions and an outcome. The first that fits decides."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from router.patterns import Pattern, found
from router.triage.decision import Outcome, Question


class When(BaseModel):
    """Conditions; what is left out holds always, and all that are given must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_length: NonNegativeInt = 0
    """Characters of the prompt, at least."""
    max_length: NonNegativeInt | None = None
    """Characters of the prompt, at most."""
    pattern: Pattern = ""
    """A regular expression that is found in the prompt's first 16,384 characters, in any case."""
    accounts: tuple[str, ...] = ()
    """Names with `*` and `?`, one of which is the account's."""
    tools: tuple[str, ...] = ()
    """Names with `*` and `?`; one of the tools that are asked for by name has one of them."""
    session: bool | None = None
    """Whether it goes on with a session."""
    files: bool | None = None
    """Whether the session's workspace has files."""
    context: tuple[str, ...] = ()
    """Providers, one of which has put something before the prompt."""

    async def holds(self, question: Question) -> bool:
        """Whether all conditions hold for the question."""
        # The workspace last, because it is another service that is asked.
        return self._fits(question) and (self.files is None or self.files is await question.has_files())

    def _fits(self, question: Question) -> bool:
        length = len(question.prompt)
        return (
            length >= self.min_length
            and (self.max_length is None or length <= self.max_length)
            and (self.session is None or self.session is question.session)
            and (not self.context or not question.context.isdisjoint(self.context))
            and (not self.accounts or _one_matches([question.account], self.accounts))
            and (not self.tools or _one_matches(question.tools, self.tools))
            and (not self.pattern or found(self.pattern, question.prompt))
        )


class Rule(BaseModel):
    """One rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    when: When = When()
    outcome: Outcome
    reason: str = ""
    """For the person who asked. A refusal should say what to do instead."""


def _one_matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name.lower(), pattern.lower()) for name in names for pattern in patterns)
