"""What an operator looks at first."""

from __future__ import annotations

import time

from pointsman.system.v1 import system_service_pb2 as pb
from support.router_house import API_KEY


async def test_health_tells_of_every_service_and_needs_no_passport(house):
    begun = time.monotonic()
    health = await house.system.GetHealth(pb.GetHealthRequest())
    assert time.monotonic() - begun < 10
    assert {entry.service: entry.status for entry in health.services} == {
        "router": "healthy",
        "session": "healthy",
        "runner": "unhealthy",
        "llm-proxy": "unhealthy",
    }
    assert health.status == "unhealthy"
    assert health.timestamp.seconds > 0


async def test_debug_tells_of_each_service_that_answers_without_a_secret(house):
    debug = await house.system.GetDebug(pb.GetDebugRequest(), metadata=house.caller(scopes={"owner"}))
    (router,) = debug.services
    assert router.service == "router"
    assert router.configuration["API_KEY"] == "[REDACTED]"
    assert API_KEY not in str(debug)
