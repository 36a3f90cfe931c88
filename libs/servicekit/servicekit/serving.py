"""A running gRPC server: health, reflection, what surrounds every call, and an orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc.aio
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servicekit.access import ACCESS, Access
from servicekit.audit import AuditTrail
from servicekit.config import ConfigError
from servicekit.drain import Drain
from servicekit.health import HealthServicer
from servicekit.interceptors.admission import Admission, Credentials
from servicekit.interceptors.serve import CallInterceptor
from servicekit.limits import server_options
from servicekit.passport import PassportVerifier
from servicekit.process import run_service
from servicekit.reflection import add_reflection

__all__ = ["Drain", "RunningServer", "Servicer", "run_service", "serving"]

_log = structlog.get_logger("servicekit.serving")

# Calls that came in while `settle` ran have at least this long to end.
_LAST_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Servicer:
    """A service to serve: the generated `add_…Servicer_to_server`, the instance, and the descriptor."""

    add: Callable[[Any, Any], None]
    instance: Any
    descriptor: ServiceDescriptor


@dataclass(frozen=True)
class RunningServer:
    """Where a server listens. `address` is for clients; `port` is 0 on a Unix socket."""

    address: str
    port: int
    drain: Drain


@asynccontextmanager
async def serving(
    *,
    service: str,
    address: str,
    servicers: Sequence[Servicer],
    verifier: PassportVerifier,
    credentials: Credentials | None = None,
    drain: Drain,
    grace: float = 10.0,
    access: Mapping[str, Access] = ACCESS,
    reflected: Sequence[str] | None = None,
    audit: AuditTrail | None = None,
    settle: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[RunningServer]:
    """Serve at `address` (`host:port`, where port 0 takes a free one, or `unix:/path`) while inside.

    With `credentials`, who brings no passport may bring a credential. Reflection lists the services in
    `reflected`, by default those that are served. Calls from outside that change something are noted in
    `audit`.

    On the way out: the drain starts, and with it health turns NOT_SERVING; `settle` is awaited, and calls are
    still taken meanwhile; then no new calls are taken, and running ones have what is left of `grace` seconds
    (at least two) to end before they are cancelled. `settle` has a bound of its own, and is left out when the
    service ends because of an error. Raises ConfigError when the address is taken.
    """
    server = grpc.aio.server(
        interceptors=[CallInterceptor(Admission(access, verifier, credentials), audit)],
        options=server_options(),
    )
    names = [servicer.descriptor.full_name for servicer in servicers]
    for servicer in servicers:
        servicer.add(servicer.instance, server)
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(names, drain), server)
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    listed = names if reflected is None else reflected
    add_reflection([*listed, health_name], server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(
            f"{service}: cannot listen on {address}; it is taken or not of this machine"
        ) from error
    await server.start()
    running = RunningServer(_reachable(address, port), 0 if address.startswith("unix:") else port, drain)
    _log.info("serving", address=running.address, services=names)
    left = grace
    try:
        yield running
        drain.start()
        if settle is not None:
            clock = asyncio.get_running_loop().time
            began = clock()
            await settle()
            left = max(grace - (clock() - began), min(grace, _LAST_SECONDS))
    finally:
        drain.start()
        await server.stop(left)
        _log.info("stopped", address=running.address)


def _reachable(address: str, port: int) -> str:
    if address.startswith("unix:"):
        return address
    host = address.rpartition(":")[0]
    # A wildcard is an address to listen on, not one to connect to.
    return f"{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}"
