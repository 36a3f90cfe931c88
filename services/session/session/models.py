"""Which model a turn runs on, asked of llm-proxy and remembered for a moment."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from servicekit.errors import Failure

from session.peers import Models, Party

# So long may a model that was just taken out of the configuration still be accepted.
_SECONDS: Final = 3.0
# Names that tenants ask for; a name costs about 200 bytes.
_ENTRIES: Final = 1024


class ModelNames:
    """Resolves names of models. Only successes are remembered."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._known: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    async def resolve(self, party: Party, model: str, field: str = "") -> str:
        """Return the model that a name stands for, empty for the default; Failure MODEL_UNKNOWN.

        `field` is where the name stands, for the failure; empty for the turn's own model.
        """
        known = self.remembered(party.tenant, model)
        if known is not None:
            return known
        try:
            resolved = await self._models.resolve(party, model)
        except Failure as failure:
            if not field:
                raise
            raise _at(field, failure) from failure
        key = (party.tenant, model)
        self._known[key] = (resolved, time.monotonic() + _SECONDS)
        self._known.move_to_end(key)
        if len(self._known) > _ENTRIES:
            self._known.popitem(last=False)
        return resolved

    def remembered(self, tenant: str, model: str) -> str | None:
        """Return what a name stood for a moment ago, None when that is not known; from any thread."""
        known = self._known.get((tenant, model))
        return known[0] if known is not None and time.monotonic() < known[1] else None


def _at(field: str, failure: Failure) -> Failure:
    """Return a failure that says where the name stands."""
    return Failure(
        failure.reason,
        f"{field}: {failure.message}",
        fields=[(field, failure.message)],
        retry_after=failure.retry_after,
        **failure.metadata,
    )
