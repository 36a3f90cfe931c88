"""What stands behind the edge in its own tests: small services that tell what reached them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from envoy.type.v3 import http_status_pb2
from google.rpc import status_pb2
from pointsman.errors.v1 import errors_pb2
from pointsman.llm.v1 import llm_service_pb2, llm_service_pb2_grpc, model_service_pb2, model_service_pb2_grpc
from pointsman.router.v1 import router_service_pb2, router_service_pb2_grpc
from pointsman.session.v1 import event_pb2, session_service_pb2, session_service_pb2_grpc, turn_pb2
from pointsman.system.v1 import system_service_pb2, system_service_pb2_grpc
from servicekit.context import Call, current_passport, current_request_id
from servicekit.errors import Failure
from servicekit.interceptors.incoming import Incoming
from servicekit.passport import PASSPORT_HEADER, Passport, PassportSigner
from servicekit.serving import Servicer
from servicekit.status import DETAILS_HEADER
from servicekit.testing import Keys, serve, test_keys

KEY = "the-key-of-the-edge-tests"
TOKENS = 3
PASSPORT = Passport("acme", None, "tester", frozenset({"admin"}))


@dataclass
class Seen:
    """What reached the peers."""

    metadata: list[dict[str, str]] = field(default_factory=list)
    """Of each call to a service, in order."""
    asked: list[dict[str, str]] = field(default_factory=list)
    """Headers of each question to the authorization service."""
    identified: int = 0
    """Calls of the router's own services that came without a passport."""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the test: a turn with the prompt `wait` waits for it after its first event."""
    quiet_seconds: float = 0.0
    """How long such a turn is quiet after that."""
    internal_calls: int = 0
    """Calls that reached a service which is not public."""


class Caller:
    """Lets `KEY` in to the router's own services, which the edge does not ask about."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    async def identify(self, call: Call, incoming: Incoming) -> Passport:
        """See Credentials."""
        self._seen.identified += 1
        sent = [value.removeprefix("Bearer ") for value in incoming.values("authorization")]
        if KEY not in (*sent, *incoming.values("x-api-key")):
            raise Failure(errors_pb2.ERROR_REASON_CREDENTIAL_MISSING, "No API key came with the call.")
        return PASSPORT


class Gate(external_auth_pb2_grpc.AuthorizationServicer):  # type: ignore[misc]
    """Lets `KEY` in, as `Authorization: Bearer` or `x-api-key`."""

    def __init__(self, signer: PassportSigner, seen: Seen) -> None:
        self._signer = signer
        self._seen = seen

    async def Check(self, request: Any, context: Any) -> Any:
        """Answer for one request."""
        headers = dict(request.attributes.request.http.headers)
        self._seen.asked.append(headers)
        if KEY in (headers.get("authorization", "").removeprefix("Bearer "), headers.get("x-api-key")):
            return external_auth_pb2.CheckResponse(
                status=status_pb2.Status(code=0),
                ok_response=external_auth_pb2.OkHttpResponse(
                    headers=[_header(PASSPORT_HEADER, self._signer.sign(PASSPORT))]
                ),
            )
        refused = Failure(errors_pb2.ERROR_REASON_CREDENTIAL_MISSING, "No API key came with the call.")
        denied = external_auth_pb2.DeniedHttpResponse(status=http_status_pb2.HttpStatus(code=401))
        if headers.get("content-type", "").startswith("application/grpc"):
            details = dict(refused.to_status().trailing_metadata)[DETAILS_HEADER]
            raw = details if isinstance(details, bytes) else details.encode()
            denied.body = refused.message
            denied.headers.append(_header(DETAILS_HEADER, base64.b64encode(raw).decode().rstrip("=")))
        else:
            denied.body = json.dumps({"code": 16, "message": refused.message})
            denied.headers.append(_header("content-type", "application/json"))
        return external_auth_pb2.CheckResponse(status=status_pb2.Status(code=16), denied_response=denied)


def _header(name: str, value: str) -> Any:
    return base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=name, value=value))


class Router(router_service_pb2_grpc.RouterServiceServicer):
    """Answers `Query` with who asked, and `RunTurn` with three events."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    async def Query(self, request: Any, context: Any) -> router_service_pb2.QueryResponse:
        """Echo, or fail as asked."""
        self._seen.metadata.append(_texts(context))
        if request.query == "fail":
            raise Failure(errors_pb2.ERROR_REASON_QUEUE_FULL, "The queue is full.", limit="3")
        tenant = current_passport().tenant
        return router_service_pb2.QueryResponse(
            success=True, response=f"{tenant}: {request.query}", request_id=current_request_id()
        )

    async def RunTurn(self, request: Any, context: Any) -> AsyncIterator[router_service_pb2.RunTurnResponse]:
        """Yield deltas, and a last event."""
        for number in range(TOKENS):
            delta = event_pb2.TextDelta(text=f"{request.prompt} {number}")
            yield router_service_pb2.RunTurnResponse(event=event_pb2.Event(text_delta=delta))
            if request.prompt == "wait":
                await self._seen.go_on.wait()
                # Once: every message starts the count of pings anew.
                await asyncio.sleep(0 if number else self._seen.quiet_seconds)
        finished = turn_pb2.TurnFinished(result="done")
        yield router_service_pb2.RunTurnResponse(event=event_pb2.Event(sequence=1, turn_finished=finished))


class System(system_service_pb2_grpc.SystemServiceServicer):
    """Is well."""

    async def GetHealth(self, request: Any, context: Any) -> system_service_pb2.GetHealthResponse:
        """Say so."""
        return system_service_pb2.GetHealthResponse(status="healthy")


class Sessions(session_service_pb2_grpc.SessionServiceServicer):
    """Has no session but answers a watch."""

    async def GetSession(self, request: Any, context: Any) -> session_service_pb2.GetSessionResponse:
        """Find nothing."""
        raise Failure(errors_pb2.ERROR_REASON_SESSION_NOT_FOUND, f"There is no {request.name}.")

    async def WatchEvents(
        self, request: Any, context: Any
    ) -> AsyncIterator[session_service_pb2.WatchEventsResponse]:
        """Yield the event after the cursor, for ever one."""
        event = event_pb2.Event(
            sequence=request.after_sequence + 1, turn_finished=turn_pb2.TurnFinished(result="done")
        )
        yield session_service_pb2.WatchEventsResponse(event=event)


class Models(model_service_pb2_grpc.ModelServiceServicer):
    """Has one model."""

    async def ListModels(self, request: Any, context: Any) -> model_service_pb2.ListModelsResponse:
        """List it."""
        return model_service_pb2.ListModelsResponse(models=[model_service_pb2.Model(name="demo/offline")])


class Internal(llm_service_pb2_grpc.LlmServiceServicer):
    """An internal service; nothing from outside may reach it."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    async def ResolveModel(self, request: Any, context: Any) -> llm_service_pb2.ResolveModelResponse:
        """Count the call."""
        self._seen.internal_calls += 1
        return llm_service_pb2.ResolveModelResponse()


def _texts(context: Any) -> dict[str, str]:
    return {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}


@dataclass(frozen=True)
class Peers:
    """Addresses of the services behind the edge, and what reached them."""

    router: str
    session: str
    llm_proxy: str
    llm_proxy_http: str
    seen: Seen
    keys: Keys
    stop: Callable[[str], Awaitable[None]]
    """Ends `router`, `session` or `llm_proxy`."""


@asynccontextmanager
async def peers(directory: Path) -> AsyncIterator[Peers]:
    """Start all of them; keys go below `directory`."""
    keys, seen = test_keys(directory), Seen()
    signer = keys.signer("router")
    async with AsyncExitStack() as stack:
        running: dict[str, AsyncExitStack] = {}

        async def started(name: str, *servicers: Servicer) -> str:
            running[name] = await stack.enter_async_context(AsyncExitStack())
            credentials = Caller(seen) if name == "router" else None
            serving = serve(*servicers, keys=keys, credentials=credentials)
            return (await running[name].enter_async_context(serving)).server.address

        async def stop(name: str) -> None:
            await running[name].aclose()

        router = await started(
            "router",
            _servicer(external_auth_pb2_grpc.add_AuthorizationServicer_to_server, Gate(signer, seen),
                      external_auth_pb2.DESCRIPTOR.services_by_name["Authorization"]),
            _servicer(router_service_pb2_grpc.add_RouterServiceServicer_to_server, Router(seen),
                      router_service_pb2.DESCRIPTOR.services_by_name["RouterService"]),
            _servicer(system_service_pb2_grpc.add_SystemServiceServicer_to_server, System(),
                      system_service_pb2.DESCRIPTOR.services_by_name["SystemService"]),
        )  # fmt: skip
        session = await started(
            "session",
            _servicer(session_service_pb2_grpc.add_SessionServiceServicer_to_server, Sessions(),
                      session_service_pb2.DESCRIPTOR.services_by_name["SessionService"]),
        )  # fmt: skip
        llm_proxy = await started(
            "llm_proxy",
            _servicer(model_service_pb2_grpc.add_ModelServiceServicer_to_server, Models(),
                      model_service_pb2.DESCRIPTOR.services_by_name["ModelService"]),
            _servicer(llm_service_pb2_grpc.add_LlmServiceServicer_to_server, Internal(seen),
                      llm_service_pb2.DESCRIPTOR.services_by_name["LlmService"]),
        )  # fmt: skip
        http = await stack.enter_async_context(_messages_api())
        yield Peers(router, session, llm_proxy, http, seen, keys, stop)


def _servicer(add: Any, instance: Any, descriptor: Any) -> Servicer:
    return Servicer(add=add, instance=instance, descriptor=descriptor)


@asynccontextmanager
async def _messages_api() -> AsyncIterator[str]:
    """Answer every HTTP request with its path and headers."""

    async def echo(request: web.Request) -> web.Response:
        headers: Mapping[str, str] = {name.lower(): value for name, value in request.headers.items()}
        return web.json_response({"path": request.path_qs, "headers": dict(headers)})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()
