"""Room for sandboxes: so many and no more."""

from __future__ import annotations

import asyncio


class Places:
    """Counts who is in. Whoever waits is told whenever something may have changed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._waiting = 0
        self._changed = asyncio.Event()

    def try_take_spare(self) -> bool:
        """Take a place if there is one that nobody waits for."""
        return self._waiting == 0 and self.try_take()

    def try_take(self) -> bool:
        """Take a place if there is one."""
        if self.taken >= self.limit:
            return False
        self.taken += 1
        return True

    def give(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self.tell()

    def tell(self) -> None:
        """Wake those who wait: a place came free, or could be made free."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        """Wait for the next change."""
        self._waiting += 1
        try:
            await self._changed.wait()
        finally:
            self._waiting -= 1
