"""Numbers about calls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from prometheus_client import Counter, Histogram

# From a hop on loopback, 0.4 ms, to a turn that runs for half an hour.
_SECONDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    120,
    600,
    1800,
)


@dataclass(frozen=True)
class CallMetrics:
    """`pointsman_calls_total{service,method,code}` and `pointsman_call_seconds{service,method}`."""

    calls: Counter
    seconds: Histogram

    def observe(self, service: str, method: str, code: str, seconds: float) -> None:
        """Count one finished call."""
        self.calls.labels(service, method, code).inc()
        self.seconds.labels(service, method).observe(seconds)


@cache
def call_metrics() -> CallMetrics:
    """Return the process's call metrics, made on first use: Prometheus' registry is the process's own."""
    return CallMetrics(
        calls=Counter(
            "pointsman_calls", "Calls that were answered, by gRPC code.", ("service", "method", "code")
        ),
        seconds=Histogram(
            "pointsman_call_seconds",
            "From the first byte of a call to its status.",
            ("service", "method"),
            buckets=_SECONDS,
        ),
    )


@cache
def audit_dropped() -> Counter:
    """Return the count of audit entries that found no room on their way to the router."""
    return Counter("pointsman_audit_dropped", "Audit entries that were lost because the router was away.")
