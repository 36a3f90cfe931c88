"""Reading a request's body: bounded in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import hdrs, web
from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure
from servicekit.http.framing import malformed, too_large

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


async def read_body(request: web.BaseRequest, limit: int, seconds: float) -> bytes:
    """Return a whole body. Raises Failure as `body_pieces` does."""
    pieces = [piece async for piece in body_pieces(request, limit, seconds)]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def body_pieces(request: web.BaseRequest, limit: int, seconds: float) -> AsyncIterator[bytes]:
    """Yield a body as it arrives, after telling a client that waits for it to go on.

    Raises Failure MESSAGE_TOO_LARGE beyond `limit` bytes, CALL_TIMED_OUT when it is not complete within
    `seconds`, and MALFORMED_REQUEST when its chunks are not what HTTP allows.
    """
    if hdrs.EXPECT in request.headers and request.transport is not None:
        request.transport.write(_CONTINUE)
    until = asyncio.get_running_loop().time() + seconds
    size = 0
    while piece := await _next(request, until, seconds):
        size += len(piece)
        if size > limit:
            raise too_large(limit)
        yield piece


async def _next(request: web.BaseRequest, until: float, seconds: float) -> bytes:
    try:
        async with asyncio.timeout_at(until):
            return await request.content.readany()
    except TimeoutError:
        raise Failure(
            errors_pb2.ERROR_REASON_CALL_TIMED_OUT,
            f"The body did not arrive within {seconds:g} seconds. Send it again.",
        ) from None
    except web.RequestPayloadError:
        raise malformed("its body ends early or is not properly chunked") from None
