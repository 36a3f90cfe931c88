"""A function of an installed Python package, by the entry points of `pointsman.context`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import entry_points
from typing import Any, Literal, cast

import structlog
from pydantic import Field
from servicekit.config import ConfigError
from servicekit.errors import Failure

from router.context.provider import Occasion, ProviderSettings, cut, unavailable

GROUP = "pointsman.context"
Gather = Callable[[Occasion], Awaitable[str]]

_log = structlog.get_logger("router.context")


class EntryPointSettings(ProviderSettings):
    """A provider of kind `python`."""

    kind: Literal["python"]
    entry_point: str = Field(min_length=1)
    """Name of an entry point in the group `pointsman.context`: an async function that takes the occasion
    (`tenant`, `account`, `prompt`, `principal`, `session`) and returns text. It runs in the router and must
    not block."""


class EntryPointProvider:
    """Calls the function."""

    def __init__(self, settings: EntryPointSettings) -> None:
        """Load the function; raises ConfigError when no installed package has it."""
        self.settings = settings
        found = entry_points(group=GROUP, name=settings.entry_point)
        if not found:
            raise ConfigError(
                f"POINTSMAN_ROUTER_CONFIG: context {settings.name}: no installed package has the entry point "
                f"{settings.entry_point!r} in the group {GROUP}"
            )
        self._gather = cast(Gather, next(iter(found)).load())

    async def gather(self, occasion: Occasion) -> str:
        """Return what the function returns."""
        try:
            found: Any = await self._gather(occasion)
        except Failure:
            raise
        except Exception as error:
            _log.warning("context function failed", provider=self.settings.name, exc_info=error)
            raise unavailable(self.settings.name, "its function failed") from error
        return cut(str(found), self.settings.max_bytes)

    async def close(self) -> None:
        """Nothing is held."""
