"""When a process that died is started again, and when no more."""

from __future__ import annotations

import random
from typing import Final

_FIRST_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 10.0
# One that served this long was well; what it dies of then is something new.
_WELL_SECONDS: Final = 1.0
# About twenty seconds of trying: enough for a port or a database to come back.
_TRIES: Final = 8


class Backoff:
    """Counts failures in a row of one process."""

    def __init__(self) -> None:
        self._failures = 0
        self._served = False

    def died(self, served_seconds: float, lived_seconds: float = 0.0) -> float | None:
        """Return the seconds to wait before the next start, or None when it is time to give up.

        Only one that never served is given up: what it needs is not there. One that did serve is tried for
        ever, as what it waits for, such as a database, may come back, and the others serve meanwhile.
        `served_seconds` is how long it had been healthy, 0 when it never was; `lived_seconds` how long ago it
        was started. The time from start to start doubles from 0.1 to 10 seconds, each a random part between a
        half and the whole, so that processes that died together do not come back together: what matters is
        how often one is started, and a slow start waits for nothing more than 0.1 seconds.
        """
        self._served = self._served or served_seconds > 0
        if served_seconds >= _WELL_SECONDS:
            self._failures = 0
        self._failures += 1
        if self._failures > _TRIES and not self._served:
            return None
        doublings = min(self._failures, _TRIES) - 1
        longest: float = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2**doublings)
        part = random.uniform(0.5, 1)  # noqa: S311 - spread, not secrecy
        return max(longest * part - lived_seconds, _FIRST_SECONDS * part)
