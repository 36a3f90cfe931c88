"""The HTTP server of the Messages API."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import structlog
from aiohttp import web
from pointsman.errors.v1 import errors_pb2
from servicekit.config import ConfigError
from servicekit.context import Call, begin, current_request_id
from servicekit.drain import Drain
from servicekit.errors import Failure
from servicekit.http.framing import check_framing
from servicekit.http.hosts import AllowedHosts
from servicekit.http.messages_errors import (
    REQUEST_ID_RESPONSE_HEADER,
    error_data,
    error_headers,
    http_status,
    internal,
)
from servicekit.http.server import HttpServer
from servicekit.passport import PASSPORT_HEADER, REQUEST_ID_HEADER

from llm_proxy.http.bodies import BODY_LIMIT
from llm_proxy.http.messages import MessagesRoutes
from llm_proxy.http.models import ONE_MODEL, ModelsRoutes
from llm_proxy.metrics import Metrics
from llm_proxy.stopping import Demand

_log = structlog.get_logger("llm_proxy.http")

# Connections that Envoy and the relays keep, with room; each is a descriptor.
_CONNECTIONS: Final = 8192

Route = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Routes:
    """Answers requests by method and path, each with its id, its log line and errors in Anthropic's shape.

    In a drain it serves agents, whose turns go on for a while, and nobody else.
    """

    def __init__(
        self,
        messages: MessagesRoutes,
        models: ModelsRoutes,
        demand: Demand,
        metrics: Metrics,
        hosts: AllowedHosts,
    ) -> None:
        self._table: Mapping[tuple[str, str], Route] = {
            ("POST", "/v1/messages"): messages.create,
            ("POST", "/v1/messages/count_tokens"): messages.count,
            ("GET", "/v1/models"): models.list_models,
            ("GET", "/"): models.root,
            ("HEAD", "/"): models.root,
        }
        self._one_model = models.get_model
        self._demand = demand
        self._metrics = metrics
        self._hosts = hosts

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Expected failures become responses; others are the server's to answer."""
        path, route = self._route(request)
        call = Call(
            f"{request.method} {path}",
            request.headers.get(REQUEST_ID_HEADER, "")[:128] or f"{random.getrandbits(128):032x}",
        )
        begin(call)
        started = time.monotonic()
        reason = "INTERNAL"
        try:
            check_framing(request, BODY_LIMIT)
            self._hosts.check(request.headers.get("host", ""))
            if PASSPORT_HEADER in request.headers:
                # From outside, through the edge.
                self._demand.drain.check()
            if route is None:
                raise _no_such_path()
            with self._demand.call():
                response = await route(request)
            reason = "OK"
            return _named(response)
        except Failure as failure:
            reason = failure.reason_name
            if "model" not in call.log_fields:
                # Else it was made, and failed at the provider.
                self._metrics.refused(reason)
            return _named(failed(failure))
        except (ConnectionResetError, asyncio.CancelledError):
            reason = "CALL_CANCELLED"
            raise
        except Exception:  # noqa: BLE001 - the last place that knows the request: typed for the caller
            _log.exception("fault")
            return _named(failed(internal()))
        finally:
            milliseconds = round((time.monotonic() - started) * 1000, 1)
            # The edge asks `HEAD /` every three seconds, to see whether the service answers.
            write = _log.debug if path == "/" and reason == "OK" else _log.info
            write("call", method=call.method, reason=reason, duration_ms=milliseconds, **call.log_fields)

    def _route(self, request: web.BaseRequest) -> tuple[str, Route | None]:
        """Return the path as the log has it, which is never one that a caller made up, and its route."""
        if request.method == "GET" and request.path.startswith(ONE_MODEL):
            return f"{ONE_MODEL}{{model}}", self._one_model
        route = self._table.get((request.method, request.path))
        return request.path if route else "(unknown)", route


def failed(failure: Failure) -> web.Response:
    """Return a failure as a response."""
    return web.json_response(error_data(failure), status=http_status(failure), headers=error_headers(failure))


def _named(response: web.StreamResponse) -> web.StreamResponse:
    """Add the request's id to a response. A stream that has begun has it already."""
    if not response.prepared:
        response.headers[REQUEST_ID_RESPONSE_HEADER] = current_request_id()
    return response


def _no_such_path() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_METHOD_UNIMPLEMENTED,
        "There is no such path here. There are: POST /v1/messages, POST /v1/messages/count_tokens, "
        "GET /v1/models, GET /v1/models/{id}, HEAD /.",
    )


@asynccontextmanager
async def serving_http(routes: Routes, address: str, drain: Drain) -> AsyncIterator[str]:
    """Serve the routes at `host:port` while inside; gives the address, with the port that was taken.

    Raises ConfigError when it cannot be had.
    """
    host, _, port = address.rpartition(":")
    # The server cancels the call of a client that went away: a provider costs money until then.
    server = HttpServer(routes.answer, failed, connections=_CONNECTIONS)
    # `Demand.settle` has waited for the calls.
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=2.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, int(port), reuse_port=False).start()
        except OSError:
            raise ConfigError(
                f"POINTSMAN_LLM_PROXY_HTTP_ADDRESS: cannot listen on {address}; "
                "it is taken or not of this machine"
            ) from None
        taken = runner.addresses[0][1]
        _log.info("serving", address=f"{host}:{taken}")
        yield f"{host}:{taken}"
    finally:
        drain.start()
        await runner.cleanup()
