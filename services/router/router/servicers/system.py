"""`pointsman.system.v1.SystemService`: what an operator looks at first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pointsman.system.v1 import (
    diagnostics_service_pb2,
    diagnostics_service_pb2_grpc,
    system_service_pb2,
    system_service_pb2_grpc,
)
from servicekit.context import answer_header

# A probe's own deadline is seldom under a second; a healthy service on the same machine needs milliseconds.
_SECONDS: Final = 0.8
# Anybody may ask for health; however many do, each service is asked once in this time.
_FRESH_SECONDS: Final = 1.0
# The edge answers HTTP clients with 503 where it finds this, for probes that look at nothing else.
_UNWELL: Final = ("x-pointsman-health", "unhealthy")


class SystemServicer(system_service_pb2_grpc.SystemServiceServicer):
    """Asks every service, all at once, and leaves out or reports the one that does not answer."""

    def __init__(
        self, services: Mapping[str, grpc.aio.Channel], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take a channel to each service, the router's to itself among them, in the order to report."""
        self._services = services
        self._clock = clock
        self._asking: asyncio.Task[system_service_pb2.GetHealthResponse] | None = None
        self._asked = float("-inf")

    async def GetHealth(
        self, request: system_service_pb2.GetHealthRequest, context: Any
    ) -> system_service_pb2.GetHealthResponse:
        """Answer within a second, whatever the others do, with what was found within the last one."""
        if self._asking is None or self._clock() - self._asked >= _FRESH_SECONDS:
            self._asked = self._clock()
            self._asking = asyncio.create_task(self._health())
        # One who goes away does not take the answer from the others.
        found = await asyncio.shield(self._asking)
        if found.status != "healthy":
            answer_header(*_UNWELL)
        return found

    async def _health(self) -> system_service_pb2.GetHealthResponse:
        healths = await asyncio.gather(*(_health(name, channel) for name, channel in self._services.items()))
        well = all(health.status == "healthy" for health in healths)
        now = Timestamp()
        now.GetCurrentTime()
        return system_service_pb2.GetHealthResponse(
            status="healthy" if well else "unhealthy", timestamp=now, services=healths
        )

    async def GetDebug(
        self, request: system_service_pb2.GetDebugRequest, context: Any
    ) -> system_service_pb2.GetDebugResponse:
        """Answer within a second, whatever the others do."""
        answers = await asyncio.gather(*(_diagnostics(channel) for channel in self._services.values()))
        return system_service_pb2.GetDebugResponse(services=[answer for answer in answers if answer])


async def _health(name: str, channel: grpc.aio.Channel) -> system_service_pb2.ServiceHealth:
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=_SECONDS
        )
        well = answer.status == health_pb2.HealthCheckResponse.SERVING
    except grpc.aio.AioRpcError:
        well = False
    now = Timestamp()
    now.GetCurrentTime()
    return system_service_pb2.ServiceHealth(
        service=name, status="healthy" if well else "unhealthy", timestamp=now
    )


async def _diagnostics(channel: grpc.aio.Channel) -> system_service_pb2.Diagnostics | None:
    stub = diagnostics_service_pb2_grpc.DiagnosticsServiceStub(channel)
    try:
        answer = await stub.GetDiagnostics(diagnostics_service_pb2.GetDiagnosticsRequest(), timeout=_SECONDS)
    except grpc.aio.AioRpcError:
        return None
    return answer.diagnostics
