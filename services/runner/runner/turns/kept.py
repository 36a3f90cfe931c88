"""Turns that are over and can still be followed: for a while, and within a bound of memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from runner.names import SessionRef, TurnRef

KEPT_SECONDS: Final = 600.0
"""How long a turn that is over can still be followed: longer than a session service takes to come back."""
KEPT_BYTES: Final = 256 * 1024 * 1024
"""Of all turns that are over."""


class OverTurn(Protocol):
    """What is looked at of a turn that is over."""

    @property
    def ref(self) -> TurnRef:
        """Which turn it is."""

    @property
    def bytes(self) -> int:
        """What it takes."""


class KeptTurns:
    """Turns that are over, in the order of their ends. The newest one stays however large it is.

    Each call takes as long as it has turns to let go of, and not as there are turns.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._over: OrderedDict[TurnRef, tuple[float, int]] = OrderedDict()
        self._bytes = 0

    def add(self, turn: OverTurn) -> None:
        """Take in a turn that ends now."""
        if turn.ref in self._over:
            self._let_go(turn.ref, self._over[turn.ref][1])
        self._over[turn.ref] = (self._clock(), turn.bytes)
        self._bytes += turn.bytes

    def outdated(self) -> Iterator[TurnRef]:
        """Let go of turns that ended long ago or are too much, the oldest first, and yield them."""
        while self._over:
            ref, (ended, size) = next(iter(self._over.items()))
            too_much = self._bytes > KEPT_BYTES and len(self._over) > 1
            if not too_much and self._clock() - ended <= KEPT_SECONDS:
                return
            self._let_go(ref, size)
            yield ref

    def forget(self, session: SessionRef) -> None:
        """Let go of a session's turns."""
        for ref in [ref for ref in self._over if ref.session == session]:
            self._let_go(ref, self._over[ref][1])

    def _let_go(self, ref: TurnRef, size: int) -> None:
        del self._over[ref]
        self._bytes -= size
