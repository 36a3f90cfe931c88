"""What still needs this service after it was asked to stop: calls that run, and agents in mid turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from servicekit.drain import Drain
from servicekit.errors import Failure

from llm_proxy.tokens import SessionTokens

GRACE_SECONDS: Final = 12.0
"""How long an agent in mid turn may still ask. A runner and a session service that were asked to stop at the
same moment need up to ten seconds; a container gets SIGKILL after twenty."""
_LOOK_SECONDS: Final = 0.2


class Demand:
    """Counts the calls that run over HTTP, and knows of the turns that have a token."""

    def __init__(self, tokens: SessionTokens, drain: Drain) -> None:
        self.drain = drain
        self._tokens = tokens
        self._calls = 0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call while inside."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    async def settle(self, grace: float = GRACE_SECONDS) -> None:
        """Return when nobody needs the service any more, and after `grace` seconds in any case."""
        clock = asyncio.get_running_loop().time
        end = clock() + grace
        while clock() < end:
            if not self._calls and not await self._turns_run():
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _turns_run(self) -> bool:
        try:
            return await self._tokens.in_use()
        except Failure:
            # Without its database the service can answer no agent.
            return False
