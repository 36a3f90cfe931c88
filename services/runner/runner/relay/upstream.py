"""One sandbox's own connections to llm-proxy. No connection ever carries two sandboxes' requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Self

import aiohttp

# Of silence: a provider may think for minutes before its first byte.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=900)
# The supervisor starts a service that died again within a few seconds.
_CONNECT_PATIENCE: Final = 10.0
_CONNECT_PAUSE: Final = 0.1

Body = bytes | Callable[[], AsyncIterator[bytes]] | None


class Upstream:
    """Asks llm-proxy at `base`, with at most `connections` connections.

    A body in one piece goes over a connection that is kept for the next request: its length is known and it
    is written at once, so the connection cannot be left half-written. An error may be an answer to a body
    that was not read, so after one these connections are not used again. A body in pieces goes over a
    connection of its own, which is closed afterwards whatever happened.
    """

    def __init__(self, base: str, connections: int) -> None:
        self._base = base
        self._connections = connections
        self._kept: _Kept | None = None

    @asynccontextmanager
    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: Body
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give the answer when it has begun; a llm-proxy that is starting is waited for.

        Raises aiohttp.ClientError or TimeoutError. A Failure that a body's pieces raise is the cause of one.
        """
        if callable(body):
            async with (
                _session(aiohttp.TCPConnector(limit=1, force_close=True)) as session,
                self._asked(session, method, target, headers, body) as answer,
            ):
                yield answer
            return
        kept = self._kept = self._kept or _Kept(_session(aiohttp.TCPConnector(limit=self._connections)))
        async with kept, self._asked(kept.session, method, target, headers, body) as answer:
            if answer.status >= 400:
                kept.retired = True
                if self._kept is kept:
                    self._kept = None
            yield answer

    @asynccontextmanager
    async def _asked(
        self, session: aiohttp.ClientSession, method: str, target: str, headers: Mapping[str, str], body: Body
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        give_up = time.monotonic() + _CONNECT_PATIENCE
        while True:
            data = body() if callable(body) else body
            try:
                answer = await session.request(
                    method, f"{self._base}{target}", headers=headers, data=data, allow_redirects=False
                )
                break
            except aiohttp.ClientConnectorError:
                # Nothing was sent, so nothing is asked twice.
                if time.monotonic() > give_up:
                    raise
            await asyncio.sleep(_CONNECT_PAUSE)
        async with answer:
            yield answer

    async def close(self) -> None:
        """Close the connections. Nothing may be under way any more."""
        if self._kept is not None:
            await self._kept.session.close()


class _Kept:
    """Connections that are kept. Once retired, they are closed when the last request over them is over."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.retired = False
        self._users = 0

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self.retired and not self._users:
            await self.session.close()


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        timeout=_TIMEOUT,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"host": "llm-proxy", "accept-encoding": "identity"},
        skip_auto_headers=("user-agent", "content-type"),
    )
