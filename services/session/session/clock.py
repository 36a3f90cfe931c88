"""Times, as whole microseconds since 1970: both databases keep them exactly and compare them fast."""

from __future__ import annotations

import time
from datetime import timedelta

from google.protobuf.timestamp_pb2 import Timestamp


def now() -> int:
    """Return the time of this process's clock."""
    return time.time_ns() // 1000


def micros(duration: timedelta) -> int:
    """Return a duration in microseconds."""
    return duration // timedelta(microseconds=1)


def timestamp(time_micros: int | None) -> Timestamp | None:
    """Return a time as a proto; None and 0 are no time."""
    if not time_micros:
        return None
    return Timestamp(seconds=time_micros // 1_000_000, nanos=time_micros % 1_000_000 * 1000)


def from_timestamp(proto: Timestamp) -> int:
    """Return a proto's time; 0 for one that is not set."""
    return proto.seconds * 1_000_000 + proto.nanos // 1000
