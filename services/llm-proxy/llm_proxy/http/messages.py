"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any, Final

import structlog
from aiohttp import web
from servicekit.context import current_request_id
from servicekit.errors import Failure
from servicekit.http.messages_errors import REQUEST_ID_RESPONSE_HEADER, comment, error_event, internal

from llm_proxy.call import CallReport
from llm_proxy.caller import Caller
from llm_proxy.gateway import Chunk, Done, Gateway
from llm_proxy.http.bodies import Bodies
from llm_proxy.http.identity import Identity
from llm_proxy.messages.request import MessagesRequest, read_request
from llm_proxy.routing.attempts import Retry

_log = structlog.get_logger("llm_proxy.http")

USAGE_HEADER: Final = "x-pointsman-usage"

_STREAM_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class MessagesRoutes:
    """The two calls that ask a model."""

    def __init__(self, gateway: Gateway, identity: Identity) -> None:
        self._gateway = gateway
        self._identity = identity
        self._bodies = Bodies()

    async def create(self, http: web.BaseRequest) -> web.StreamResponse:
        """Ask a model; a stream when the body says so."""
        caller = await self._identity.caller(http.headers)
        async with self._bodies.taken(http, caller.payer.tenant) as raw:
            request = await self._read(raw, http, caller)
            # Only our relay asks for our own lines; to others they are noise.
            annotated = http.headers.get(USAGE_HEADER) == "1"
            if request.stream:
                return await self._stream(http, caller, request, annotated)
            return await self._whole(caller, request, annotated)

    async def count(self, http: web.BaseRequest) -> web.Response:
        """Count a request's tokens."""
        caller = await self._identity.caller(http.headers)
        async with self._bodies.taken(http, caller.payer.tenant) as raw:
            request = await self._read(raw, http, caller, counting=True)
            return web.json_response({"input_tokens": await self._gateway.count_tokens(request, caller)})

    async def _read(
        self, raw: bytes, http: web.BaseRequest, caller: Caller, *, counting: bool = False
    ) -> MessagesRequest:
        def parse(body: bytes) -> MessagesRequest:
            return read_request(body, http.headers, counting=counting)

        return await self._bodies.parsed(raw, caller.payer.tenant, parse)

    async def _stream(
        self, http: web.BaseRequest, caller: Caller, request: MessagesRequest, annotated: bool
    ) -> web.StreamResponse:
        """Send the answer as it comes. An error before the first byte is an HTTP error, later an event."""
        response = web.StreamResponse(
            headers={**_STREAM_HEADERS, REQUEST_ID_RESPONSE_HEADER: current_request_id()}
        )
        async with aclosing(self._gateway.ask(caller, request)) as steps:  # type: ignore[type-var]
            try:
                async for step in steps:
                    data = _line(step, annotated)
                    if not data:
                        continue
                    if not response.prepared:
                        await response.prepare(http)
                    await response.write(data)
            except Failure as failure:
                if not response.prepared:
                    raise
                await response.write(error_event(failure))
            except Exception:  # too late for a status, and a client that hears nothing waits for ever
                if not response.prepared or http.transport is None:
                    raise
                _log.exception("fault in mid-stream")
                await response.write(error_event(internal()))
        await response.write_eof()
        return response

    async def _whole(self, caller: Caller, request: MessagesRequest, annotated: bool) -> web.Response:
        body = b""
        report: CallReport | None = None
        async with aclosing(self._gateway.ask(caller, request)) as steps:  # type: ignore[type-var]
            async for step in steps:
                if isinstance(step, Chunk):
                    body = step.data
                elif isinstance(step, Done):
                    report = step.report
        headers = {"content-type": "application/json"}
        if annotated and report is not None:
            headers[USAGE_HEADER] = json.dumps(report.data())
        return web.Response(body=body, headers=headers)


def _line(step: Retry | Chunk | Done, annotated: bool) -> bytes:
    """Return what goes over the wire, with our own lines for those who asked for them; maybe nothing."""
    if isinstance(step, Chunk):
        return step.data
    if not annotated:
        return b""
    if isinstance(step, Done):
        return comment("usage", step.report.data())
    return comment("retry", _retry_data(step))


def _retry_data(retry: Retry) -> dict[str, Any]:
    return {
        "attempt": retry.attempt,
        "max_attempts": retry.max_attempts,
        "delay_seconds": round(retry.delay_seconds, 3),
        "status": retry.failure.status,
        "message": retry.failure.to_failure(retry.model).message,
    }
