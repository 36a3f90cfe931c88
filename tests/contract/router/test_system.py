"""What an operator looks at first."""

from __future__ import annotations

import time

from pointsman.system.v1 import system_service_pb2 as pb


async def test_health_tells_of_every_service_and_needs_no_passport(house):
    begun = time.monotonic()
    health = await house.system.GetHealth(pb.GetHealthRequest())
    assert time.monotonic() - begun < 2
    assert {entry.service: entry.status for entry in health.services} == {
        "router": "healthy",
        "session": "healthy",
        "runner": "unhealthy",
        "llm-proxy": "unhealthy",
    }
    assert health.status == "unhealthy"
    assert health.timestamp.seconds > 0
