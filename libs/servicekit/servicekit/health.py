"""The health service. Its `Watch` ends with the drain, which the library's own would hold up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servicekit.drain import Drain

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers SERVING for the known services and for the whole server (""), until the drain starts.

    Then it answers NOT_SERVING, and each watcher is told so before its stream ends.
    """

    def __init__(self, services: Iterable[str], drain: Drain) -> None:
        self._services = frozenset({"", *services})
        self._drain = drain

    async def Check(  # noqa: N802 - gRPC's spelling
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """Return the status now; NOT_FOUND for a service that is not here, as the protocol has it."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"This server has no service {request.service!r}.")
        return self._status(request.service)

    async def Watch(  # noqa: N802 - gRPC's spelling
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Yield the status now and when it changes, and end with the drain."""
        if not self._drain.draining:
            yield self._status(request.service)
            await self._drain.started.wait()
        yield self._status(request.service)
        raise self._drain.failure()

    def _status(self, service: str) -> health_pb2.HealthCheckResponse:
        if service not in self._services:
            return health_pb2.HealthCheckResponse(status=SERVICE_UNKNOWN)
        return health_pb2.HealthCheckResponse(status=NOT_SERVING if self._drain.draining else SERVING)
