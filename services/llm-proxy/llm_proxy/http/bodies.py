"""Reading the bodies of requests without letting one caller use up memory or the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from aiohttp import web
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure
from servicekit.http.body import body_pieces

Read = TypeVar("Read")

BODY_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of a body: Anthropic's own limit. Documents and images come within it."""
_READ_SECONDS: Final = 60.0
# Reading such a body takes a millisecond or two, less than handing it to a thread may.
_QUICK_BYTES: Final = 256 * 1024
_QUICK_VALUES: Final = 20_000
# Bodies that are held, from their first byte to the end of their call. Smaller ones are not counted.
_HELD_BYTES: Final = 512 * 1024 * 1024
_HELD_BYTES_EACH: Final = 128 * 1024 * 1024
# Of the time: a tenant that sends one large body after another leaves the rest to everybody else.
_PARSING_SHARE: Final = 0.1


class Bodies:
    """Takes bodies in, and has large ones parsed in a thread: one at a time, and fairly between tenants.

    A thread that parses holds the interpreter's lock, so that it slows the event loop down although it is not
    in it. After each large body, its tenant's next one therefore waits nine times as long as that one took.
    """

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._parsing = asyncio.Lock()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def taken(self, request: web.BaseRequest, tenant: str) -> AsyncIterator[bytes]:
        """Give a body, which counts as held by its tenant while inside.

        Raises Failure as `body_pieces` does, and RATE_LIMITED when the tenant, or everybody together, holds
        as many bytes as may be held.
        """
        pieces: list[bytes] = []
        size = counted = 0
        try:
            async for piece in body_pieces(request, BODY_LIMIT, _READ_SECONDS):
                pieces.append(piece)
                size += len(piece)
                if size > _QUICK_BYTES:
                    self._hold(tenant, size - counted)
                    counted = size
            yield pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            self._held[tenant] -= counted
            self._held += Counter()

    def _hold(self, tenant: str, size: int) -> None:
        whose = ""
        if self._held[tenant] + size > _HELD_BYTES_EACH:
            whose, limit = "of this tenant's calls", _HELD_BYTES_EACH
        elif self._held.total() + size > _HELD_BYTES:
            whose, limit = "of all calls", _HELD_BYTES
        if whose:
            raise Failure(
                errors_pb2.ERROR_REASON_RATE_LIMITED,
                f"The bodies {whose} that are under way have reached {limit // 1024 // 1024} MiB. Send this "
                "one again when others have ended, or send less with each call.",
                retry_after=timedelta(seconds=1),
            )
        self._held[tenant] += size

    async def parsed(self, raw: bytes, tenant: str, parse: Callable[[bytes], Read]) -> Read:
        """Return what `parse` makes of a body. Raises Failure CALL_TIMED_OUT after a minute of waiting."""
        if _is_quick(raw):
            return parse(raw)
        turn = self._turns.setdefault(tenant, asyncio.Lock())
        try:
            async with asyncio.timeout(_READ_SECONDS):
                await turn.acquire()
        except TimeoutError:
            raise Failure(
                errors_pb2.ERROR_REASON_CALL_TIMED_OUT,
                f"The body waited {_READ_SECONDS:g} seconds to be read, behind other large bodies of this "
                "tenant. Send it again, or send fewer large bodies at once.",
            ) from None
        pause = 0.0
        try:
            async with self._parsing:
                began = time.monotonic()
                try:
                    return await asyncio.to_thread(parse, raw)
                finally:
                    pause = (time.monotonic() - began) * (1 / _PARSING_SHARE - 1)
        finally:
            asyncio.get_running_loop().call_later(pause, turn.release)


def _is_quick(raw: bytes) -> bool:
    return len(raw) <= _QUICK_BYTES and sum(map(raw.count, (b",", b"[", b"{"))) <= _QUICK_VALUES
