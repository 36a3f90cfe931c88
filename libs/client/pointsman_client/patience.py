"""How long somebody who is away is waited for, and how often it is tried."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import grpc

from pointsman_client.errors import PointsmanError

Error = TypeVar("Error", bound=Exception)

_GROWTH: Final = 2
# Without a reason of ours, these were made on the way: a connection that broke, an edge that stopped.
_BROKEN: Final = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED})


class Patience(Generic[Error]):
    """Waits between attempts, with growing pauses and jitter, until `seconds` passed without contact.

    `passes` says of an error whether waiting may help. An error's own `retry_after`, where it has one, is
    waited for.
    """

    def __init__(
        self,
        seconds: float,
        passes: Callable[[Error], bool],
        *,
        first_pause: float = 0.1,
        longest_pause: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._passes = passes
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._clock = clock
        self.contact()

    def contact(self) -> None:
        """There was an answer: the waiting starts anew."""
        self._contact = self._clock()
        self._pause = self._first_pause

    async def wait(self, error: Error) -> None:
        """Return when it is time to try again; raise the error when that is no help, or not in time."""
        left = self._contact + self._seconds - self._clock()
        asked = getattr(error, "retry_after", None)
        least = asked.total_seconds() if asked is not None else 0.0
        if not self._passes(error) or left <= 0 or least > left:
            raise error
        # Jitter, so that a thousand watchers of a restarted service do not come back at once.
        pause = self._pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        await asyncio.sleep(min(left, max(pause, least)))
        self._pause = min(self._pause * _GROWTH, self._longest_pause)


def passes(error: PointsmanError) -> bool:
    """Say whether an installation's error may be gone in a moment."""
    if error.code is grpc.StatusCode.UNAVAILABLE or error.reason in ("RATE_LIMITED", "QUOTA_EXCEEDED"):
        return True
    return not error.reason and error.code in _BROKEN
