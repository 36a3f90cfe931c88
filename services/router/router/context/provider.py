"""What every provider of context has in common."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, Protocol

from pointsman.errors.v1 import errors_pb2
from pydantic import BaseModel, ConfigDict, Field
from servicekit.errors import Failure

from router.patterns import Pattern, found


@dataclass(frozen=True)
class Occasion:
    """Whose prompt it is gathered for, and which."""

    tenant: str
    account: str
    prompt: str
    principal: str
    session: str


class ProviderSettings(BaseModel):
    """What every provider is configured with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    accounts: tuple[str, ...] = ()
    """Only for accounts with one of these names, which may have `*` and `?`. Default: for all."""
    pattern: Pattern = ""
    """Only for prompts in which this regular expression is found, in any case. Default: for all."""
    deadline_seconds: float = Field(default=2.0, gt=0, le=60)
    """How long it may take."""
    max_bytes: int = Field(default=65_536, gt=0, le=262_144)
    """Bytes that it may put before the prompt; what is over is cut, and said to be."""
    on_failure: Literal["fail", "skip"] = "skip"
    """Whether the turn fails when this does, or goes on without it."""

    def wanted(self, occasion: Occasion) -> bool:
        """Whether this provider is for this prompt."""
        if self.accounts and not any(fnmatchcase(occasion.account, name) for name in self.accounts):
            return False
        return not self.pattern or found(self.pattern, occasion.prompt)


class Provider(Protocol):
    """Gathers text for a prompt.

    `gather` returns the text, empty when there is nothing to add. It may be cancelled at its deadline and
    then leaves nothing running; it raises a Failure when it cannot.
    """

    @property
    def settings(self) -> ProviderSettings:
        """How it is configured."""
        ...

    async def gather(self, occasion: Occasion) -> str:
        """Gather."""
        ...


def unavailable(name: str, why: str) -> Failure:
    """Return what a provider that cannot do its work raises. `why` has no secret and no address."""
    return Failure(
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        f"The context {name} cannot be gathered: {why}.",
        service=f"context:{name}",
    )


def cut(text: str, limit: int) -> str:
    """Return the text, with at most `limit` bytes of it and a word about the rest."""
    raw = text.encode(errors="replace")
    if len(raw) <= limit:
        return raw.decode()
    return raw[:limit].decode(errors="ignore") + "\n[cut: there is more than fits]"
