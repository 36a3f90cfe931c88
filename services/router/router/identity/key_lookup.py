"""Looking keys up: those that are asked for at once by one question, and each again after a second."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from router.store.keys import KeyRow, KeyStore

# How long another router's revocation may take to be seen here.
_FRESH_SECONDS: Final = 1.0
# One entry is below 1 KB. What is not there has room of its own, so that guesses do not push keys out.
_REMEMBERED: Final = 4096
# Ids in one question, within what every database takes.
_ASKED_AT_ONCE: Final = 500


class KeyLookup:
    """Knows which keys there are.

    However many keys are made up and tried, the database has one question at a time to answer, which is for
    all of those that wait. Who waits is bounded by what the edge lets in.
    """

    def __init__(self, store: KeyStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[str, tuple[KeyRow | None, float]] = OrderedDict()
        self._missing: OrderedDict[str, tuple[KeyRow | None, float]] = OrderedDict()
        self._waiting: dict[str, asyncio.Future[KeyRow | None]] = {}
        # What the question that is being answered was about, but for what was forgotten since.
        self._asked: set[str] = set()
        self._asking: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> KeyRow | None:
        """Return the key, None when there is none; Failure DATABASE_UNAVAILABLE."""
        for remembered in (self._known, self._missing):
            entry = remembered.get(key_id)
            if entry is not None and self._clock() < entry[1]:
                return entry[0]
        waiting = self._waiting.get(key_id)
        if waiting is None:
            waiting = self._waiting[key_id] = asyncio.get_running_loop().create_future()
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
        # One who goes away does not take the answer from the others.
        return await asyncio.shield(waiting)

    def forget(self, key_id: str) -> None:
        """Look the key up again at its next use."""
        self._known.pop(key_id, None)
        self._missing.pop(key_id, None)
        self._asked.discard(key_id)

    async def _ask(self) -> None:
        while self._waiting:
            asked = dict(list(self._waiting.items())[:_ASKED_AT_ONCE])
            self._asked = set(asked)
            for key_id in asked:
                # Whoever comes from now on asks anew: what is being read may change meanwhile.
                del self._waiting[key_id]
            try:
                found = await self._store.by_ids(asked.keys())
            except Exception as error:  # noqa: BLE001 - those who wait are told
                for waiting in asked.values():
                    waiting.set_exception(error)
                    # They may all have gone: then nobody is to complain that it was not looked at.
                    waiting.exception()
                continue
            for key_id, waiting in asked.items():
                waiting.set_result(found.get(key_id))
                if key_id in self._asked:
                    self._remember(key_id, found.get(key_id))

    def _remember(self, key_id: str, row: KeyRow | None) -> None:
        remembered = self._known if row is not None else self._missing
        self.forget(key_id)
        remembered[key_id] = (row, self._clock() + _FRESH_SECONDS)
        if len(remembered) > _REMEMBERED:
            remembered.popitem(last=False)
