"""What triage is asked and what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from pointsman.session.v1 import turn_pb2


class Outcome(Enum):
    """What becomes of a prompt."""

    DIRECT = "direct"
    """One call to the model, no sandbox."""
    AGENT = "agent"
    """An agent in a sandbox."""
    REFUSE = "refuse"
    """Nothing: a policy forbids it."""


async def no_files() -> bool:
    """Answer for a prompt without a session."""
    return False


@dataclass(frozen=True)
class Question:
    """A prompt with what rules may look at."""

    prompt: str
    account: str = ""
    """Empty where only the session knows it."""
    session: bool = False
    """Whether it goes on with a session."""
    tools: Sequence[str] = ()
    """Tools that are asked for by name."""
    context: frozenset[str] = frozenset()
    """Providers that have put something before the prompt."""
    agent_only: str = ""
    """The option that only an agent has, when one is used."""
    has_files: Callable[[], Awaitable[bool]] = no_files
    """Whether the session's workspace has files; asked only for a rule that wants to know."""


@dataclass(frozen=True)
class Decision:
    """What was decided, by what, and why."""

    outcome: Outcome
    decided_by: str
    reason: str
    confidence: float = 1.0
    seconds: float = 0.0
    usage: turn_pb2.Usage | None = None
