"""Waiting for an installation that is away for a moment."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

import grpc

from pointsman_client.errors import PointsmanError

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
# Without a reason of ours, these were made on the way: a connection that broke, an edge that stopped.
_BROKEN: Final = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED})


class Patience:
    """Waits between attempts until `seconds` have passed since the last contact."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._contact = time.monotonic()
        self._pause = _FIRST_PAUSE

    def contact(self) -> None:
        """There was an answer: the waiting starts anew."""
        self._contact = time.monotonic()
        self._pause = _FIRST_PAUSE

    async def wait(self, error: PointsmanError) -> None:
        """Return when it is time to try again; raise the error when that is no help, or not in time."""
        pause = self._pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        if error.retry_after is not None:
            pause = max(pause, error.retry_after.total_seconds())
        left = self._contact + self._seconds - time.monotonic()
        if not _passes(error) or pause > left:
            raise error
        await asyncio.sleep(pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)


def _passes(error: PointsmanError) -> bool:
    if error.code is grpc.StatusCode.UNAVAILABLE or error.reason in ("RATE_LIMITED", "QUOTA_EXCEEDED"):
        return True
    return not error.reason and error.code in _BROKEN
