"""Events on their way into the log, and what a transaction full of them comes to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.session.v1 import event_pb2

from session import clock
from session.storage.statements.appends import Held
from session.storage.statements.events import numbered_event, row_of
from session.storage.tables import RUNNING


@dataclass(eq=False)
class Append:
    """Events of one turn, and the columns to change with them, all or nothing."""

    session_id: str
    turn_id: str
    epoch: int
    events: list[event_pb2.Event]
    index: int = 0
    """Index of the newest of the runner's items in it; 0 when they come from elsewhere."""
    state: int = RUNNING
    """The state that the turn must be in."""
    turn: dict[str, Any] = field(default_factory=dict)
    session: dict[str, Any] = field(default_factory=dict)
    permissions: list[dict[str, Any]] = field(default_factory=list)
    pieces: list[event_pb2.Event] = field(default_factory=list)
    """Pieces of blocks that are sent once it is published, before anything after it is."""
    done: asyncio.Future[Sequence[event_pb2.Event]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    async def written(self) -> Sequence[event_pb2.Event]:
        """Wait until it is durable and published; raises LeaseLost. Who stops waiting stops nobody else."""
        return await asyncio.shield(self.done)


class Batch:
    """Appends of one transaction, judged and numbered in their order; the rows behind them are locked.

    `last` is the number of the newest event of each session, `held` is each turn as it is. `repeated` is what
    the log has already: a connection broke after the commit, and the whole transaction is run again.
    """

    def __init__(self, last: dict[str, int], held: dict[str, Held], repeated: set[Append]) -> None:
        self._last = last
        self._held = held
        self._repeated = repeated
        self._time = clock.now()
        self.numbered: list[tuple[Append, list[event_pb2.Event]]] = []
        """What is in the log with this transaction, with the numbered events."""
        self.lost: list[Append] = []
        """What is refused, and of which nothing is written."""
        self.rows: list[dict[str, Any]] = []
        self.sessions: dict[str, dict[str, Any]] = defaultdict(dict)
        self.turns: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
        self.permissions: list[dict[str, Any]] = []
        self.ends = False
        """Whether a turn ends with it."""

    def add(self, append: Append) -> None:
        """Judge an append by the fence, and take it in."""
        held = self._held.get(append.turn_id)
        if append in self._repeated:
            self.numbered.append((append, append.events))
        elif held is None or (held.epoch, held.state) != (append.epoch, append.state):
            self.lost.append(append)
        elif append.index and held.runner_index >= append.index:
            # Never twice, whoever sends it.
            self.numbered.append((append, []))
        else:
            self._take(append, held)

    def _take(self, append: Append, held: Held) -> None:
        held.runner_index = max(held.runner_index, append.index)
        numbered = [self._number(append, event) for event in append.events]
        self.numbered.append((append, numbered))
        self.rows += [row_of(append.session_id, append.turn_id, event) for event in numbered]
        session = self.sessions[append.session_id]
        session |= append.session
        session |= {"last_sequence": self._last[append.session_id], "last_activity_time": self._time}
        turn = self.turns[append.turn_id, append.epoch]
        turn |= append.turn
        turn["last_sequence"] = self._last[append.session_id]
        if append.index:
            turn["runner_index"] = append.index
        self.permissions += append.permissions
        if "state" in append.turn:
            held.state = append.turn["state"]
            self.ends = True

    def _number(self, append: Append, event: event_pb2.Event) -> event_pb2.Event:
        self._last[append.session_id] += 1
        sequence = self._last[append.session_id]
        return numbered_event(append.session_id, append.turn_id, event, sequence, self._time)
