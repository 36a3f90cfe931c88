"""How long an unreachable service is waited for, and how often it is tried."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

_PASSING: Final = frozenset(
    {
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_SERVICE_DRAINING,
        # A server that stops cancels what is still running.
        errors_pb2.ERROR_REASON_CALL_CANCELLED,
    }
)
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


class Patience:
    """Waits between attempts, with growing pauses and jitter, until `seconds` passed without contact."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._contact = clock()
        self._pause = _FIRST_PAUSE

    def contact(self) -> None:
        """The service has answered: the waiting starts anew."""
        self._contact = self._clock()
        self._pause = _FIRST_PAUSE

    async def wait(self, failure: Failure) -> None:
        """Return when it is time to try again; raise the failure when it will not pass, or lasts too long."""
        left = self._contact + self._seconds - self._clock()
        if failure.reason not in _PASSING or left <= 0:
            raise failure
        # Jitter, so that a thousand watchers of a restarted service do not come back at once.
        await asyncio.sleep(min(left, self._pause * random.uniform(0.5, 1.0)))  # noqa: S311 - no secret
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
