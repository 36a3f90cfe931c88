"""What is measured of sandboxes."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Final, Protocol

from pointsman.session.v1 import event_pb2
from prometheus_client import REGISTRY, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

# From a warm one to a wait for a free place.
_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Stated(Protocol):
    """What has a sandbox's state."""

    @property
    def state(self) -> event_pb2.SandboxState.ValueType:
        """The state it is in."""


class SandboxStates(Collector):
    """`pointsman_sandboxes{state}`: how many there are, counted when somebody looks."""

    def __init__(self, sandboxes: Callable[[], Iterable[Stated]]) -> None:
        self._sandboxes = sandboxes

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the numbers of now. Called in Prometheus' own thread."""
        family = GaugeMetricFamily("pointsman_sandboxes", "Sandboxes that are alive.", labels=["state"])
        for state, number in Tally(each.state for each in list(self._sandboxes())).items():
            family.add_metric([_name(state)], number)
        yield family

    def __enter__(self) -> None:
        REGISTRY.register(self)

    def __exit__(self, *_: object) -> None:
        REGISTRY.unregister(self)


@cache
def _claims() -> Histogram:
    return Histogram(
        "pointsman_sandbox_claim_seconds",
        "Until a turn had its sandbox, by where it came from: warm, resumed, pool or boot.",
        ("source",),
        buckets=_SECONDS,
    )


def claimed(source: str, seconds: float) -> None:
    """Measure how long a turn waited for its sandbox."""
    _claims().labels(source).observe(seconds)


def _name(state: event_pb2.SandboxState.ValueType) -> str:
    return event_pb2.SandboxState.Name(state).removeprefix("SANDBOX_STATE_").lower()
