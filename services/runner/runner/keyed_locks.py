"""A lock per key, or a few, for as long as somebody wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class KeyedLocks(Generic[Key]):
    """Locks by key, each for `holders` at once. Those nobody holds or waits for take no memory."""

    def __init__(self, holders: int = 1) -> None:
        self._holders = holders
        self._locks: dict[Key, tuple[asyncio.Semaphore, int]] = {}

    def held(self, key: Key) -> bool:
        """Return whether somebody holds the key's lock or waits for it."""
        return key in self._locks

    @asynccontextmanager
    async def hold(self, key: Key) -> AsyncIterator[None]:
        """Hold the key's lock; waiters get it in the order they came."""
        lock, users = self._locks.get(key) or (asyncio.Semaphore(self._holders), 0)
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)
