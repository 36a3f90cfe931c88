"""The HTTP server of the Messages API."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pointsman.errors.v1 import errors_pb2
from servicekit.config import ConfigError
from servicekit.context import Call, begin, current_request_id
from servicekit.drain import Drain
from servicekit.errors import Failure
from servicekit.passport import REQUEST_ID_HEADER

from llm_proxy.http.messages import MessagesRoutes
from llm_proxy.http.models import ModelsRoutes
from llm_proxy.messages.errors import (
    REQUEST_ID_RESPONSE_HEADER,
    error_data,
    error_headers,
    http_status,
    internal,
)
from llm_proxy.metrics import Metrics

_log = structlog.get_logger("llm_proxy.http")

# Anthropic's own limit is 32 MB; documents and pictures come within the body.
BODY_LIMIT: Final = 32 * 1024 * 1024
_HEADER_LIMIT: Final = 32 * 1024


def routes(messages: MessagesRoutes, models: ModelsRoutes, drain: Drain, metrics: Metrics) -> web.Application:
    """Return the application."""
    application = web.Application(client_max_size=BODY_LIMIT, middlewares=[_surrounding(drain, metrics)])
    application.router.add_post("/v1/messages", messages.create)
    application.router.add_post("/v1/messages/count_tokens", messages.count)
    application.router.add_get("/v1/models", models.list_models)
    application.router.add_get("/v1/models/{model:.+}", models.get_model)
    application.router.add_get("/", models.root)
    application.on_response_prepare.append(_name_request)
    return application


async def _name_request(_: web.Request, response: web.StreamResponse) -> None:
    """Add the request's id to a response, streams included."""
    response.headers[REQUEST_ID_RESPONSE_HEADER] = current_request_id()


def _surrounding(drain: Drain, metrics: Metrics) -> Middleware:
    log = _log.bind()

    @web.middleware
    async def surrounded(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give a request its id and its log line, and errors their shape."""
        call = Call(
            f"{request.method} {_path(request)}",
            request.headers.get(REQUEST_ID_HEADER, "")[:128] or f"{random.getrandbits(128):032x}",
        )
        begin(call)
        started = time.monotonic()
        reason = "OK"
        try:
            drain.check()
            return await handler(request)
        except Failure as failure:
            reason = failure.reason_name
            if "model" not in call.log_fields:
                # Else it was made, and failed at the provider.
                metrics.refused(reason)
            return _error(failure)
        except (ConnectionResetError, asyncio.CancelledError):
            reason = "CALL_CANCELLED"
            raise
        except web.HTTPException as error:
            refusal = _of_http(error)
            reason = refusal.reason_name
            return _error(refusal)
        except Exception:  # noqa: BLE001 - the last line of defence: typed for the caller, whole in the log
            reason = "INTERNAL"
            _log.exception("fault")
            return _error(internal())
        finally:
            milliseconds = round((time.monotonic() - started) * 1000, 1)
            # The edge asks `HEAD /` every three seconds, to see whether the service answers.
            write = log.debug if request.path == "/" and reason == "OK" else log.info
            write("call", method=call.method, reason=reason, duration_ms=milliseconds, **call.log_fields)

    return surrounded


def _path(http: web.Request) -> str:
    """Return the path as the log has it: only those that exist, never what a caller made up."""
    resource = http.match_info.route.resource
    return resource.canonical if resource is not None else "(unknown)"


def _error(failure: Failure) -> web.Response:
    return web.json_response(error_data(failure), status=http_status(failure), headers=error_headers(failure))


def _of_http(error: web.HTTPException) -> Failure:
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Failure(
            errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
            f"The body is larger than {BODY_LIMIT // 1024 // 1024} MB.",
            limit=str(BODY_LIMIT),
        )
    if error.status in (404, 405):
        return Failure(
            errors_pb2.ERROR_REASON_METHOD_UNIMPLEMENTED,
            "There is no such path here. There are: POST /v1/messages, POST /v1/messages/count_tokens, "
            "GET /v1/models, GET /v1/models/{id}, HEAD /.",
        )
    return Failure(errors_pb2.ERROR_REASON_MALFORMED_REQUEST, "This is not a request that HTTP allows.")


@asynccontextmanager
async def serving_http(application: web.Application, address: str, drain: Drain) -> AsyncIterator[str]:
    """Serve at `host:port` while inside; gives the address, with the port that was taken.

    Raises ConfigError when it cannot be had.
    """
    host, _, port = address.rpartition(":")
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=10.0,
        max_field_size=_HEADER_LIMIT,
        # A caller that went away must stop the provider, which costs money until then.
        handler_cancellation=True,
    )
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
