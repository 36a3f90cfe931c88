"""What is measured of turns and of their watchers, on this replica."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import turn_pb2
from prometheus_client import Counter, Gauge, Histogram

from session.storage.rows import TurnRow

# From a direct answer of the demo model to a turn that works for an hour.
_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_MICROS: Final = 1e6


class Metrics:
    """Counters, gauges and histograms. Routes are `direct` and `agent`, outcomes the turn's last state."""

    def __init__(self) -> None:
        self._ended = Counter(
            "pointsman_turns",
            "Turns that are over, by their outcome and the reason of their error.",
            ("route", "outcome", "reason"),
        )
        self._seconds = Histogram(
            "pointsman_turn_seconds", "From a turn's acceptance to its end.", ("route",), buckets=_SECONDS
        )
        self._waited = Histogram(
            "pointsman_turn_queue_seconds",
            "From a turn's acceptance to its start.",
            ("route",),
            buckets=_SECONDS,
        )
        self._running = Gauge("pointsman_turns_running", "Turns that run.", ("route",))
        self._watchers = Gauge("pointsman_watchers", "Streams of events that are open.")

    @contextmanager
    def running(self, turn: TurnRow) -> Iterator[None]:
        """Count a turn as running while inside."""
        gauge = self._running.labels(_route(turn))
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()

    def started(self, turn: TurnRow) -> None:
        """Measure how long a turn that begins has waited."""
        self._waited.labels(_route(turn)).observe(max(turn.start_time - turn.create_time, 0) / _MICROS)

    def ended(self, turn: TurnRow, finished: turn_pb2.TurnFinished, end_time: int) -> None:
        """Count a turn that is over."""
        outcome = turn_pb2.TurnState.Name(finished.outcome).removeprefix("TURN_STATE_").lower()
        reason = ""
        if finished.HasField("error"):
            reason = errors_pb2.ErrorReason.Name(finished.error.reason).removeprefix("ERROR_REASON_")
        self._ended.labels(_route(turn), outcome, reason).inc()
        self._seconds.labels(_route(turn)).observe(max(end_time - turn.create_time, 0) / _MICROS)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count a stream while inside."""
        self._watchers.inc()
        try:
            yield
        finally:
            self._watchers.dec()


@cache
def metrics() -> Metrics:
    """Return the process's metrics, made on first use: Prometheus' registry is the process's own."""
    return Metrics()


def _route(turn: TurnRow) -> str:
    return "direct" if turn.route == turn_pb2.TURN_ROUTE_DIRECT else "agent"
