"""Whether a service answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from servicekit.channels import service_channel

from supervisor.edge_admin import ask_envoy

_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 2.0


async def healthy(address: str) -> None:
    """Ask until the server at `address` says SERVING, then return. The caller sets the deadline."""
    async with service_channel(address, signer=None) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_SECONDS)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError:
                # Not there yet, or an answer from something on its way down; ask again.
                pass
            await asyncio.sleep(_POLL_SECONDS)


async def envoy_ready(folder: Path) -> None:
    """Ask until Envoy has read its configuration and listens, then return. The caller sets the deadline."""
    while True:
        try:
            await asyncio.to_thread(ask_envoy, folder, "ready")
            return
        except OSError:
            # Not there yet, or there and not ready (503).
            await asyncio.sleep(_POLL_SECONDS)
