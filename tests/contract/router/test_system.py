"""What an operator looks at first."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from pointsman.system.v1 import system_service_pb2 as pb
from router.servicers.system import SystemServicer
from support.router_house import API_KEY


async def test_health_tells_of_every_service_and_needs_no_passport(house):
    health = await house.system.GetHealth(pb.GetHealthRequest(), timeout=60)
    assert {entry.service: entry.status for entry in health.services} == {
        "router": "healthy",
        "session": "healthy",
        "runner": "unhealthy",
        "llm-proxy": "unhealthy",
    }
    assert health.status == "unhealthy"
    assert health.timestamp.seconds > 0


async def test_however_many_ask_each_service_is_asked_once_a_second():
    asked = []

    async def check(request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        asked.append(1)
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=health_pb2.HealthCheckRequest.FromString,
        response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    now = [0.0]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        servicer = SystemServicer({"session": channel}, clock=lambda: now[0])
        answers = await asyncio.gather(*(servicer.GetHealth(pb.GetHealthRequest(), None) for _ in range(50)))
        assert {answer.status for answer in answers} == {"healthy"}
        assert len(asked) == 1
        now[0] = 1.0
        await servicer.GetHealth(pb.GetHealthRequest(), None)
        assert len(asked) == 2
    await server.stop(None)


async def test_debug_tells_of_each_service_that_answers_without_a_secret(house):
    debug = await house.system.GetDebug(pb.GetDebugRequest(), metadata=house.caller(scopes={"owner"}))
    (router,) = debug.services
    assert router.service == "router"
    assert router.configuration["API_KEY"] == "[REDACTED]"
    assert API_KEY not in str(debug)
