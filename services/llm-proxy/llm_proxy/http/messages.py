"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any, Final
from weakref import WeakValueDictionary

import structlog
from aiohttp import web
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from llm_proxy.call import CallReport
from llm_proxy.caller import Caller
from llm_proxy.gateway import Chunk, Done, Gateway
from llm_proxy.http.identity import Identity
from llm_proxy.ledger.scopes import Payer
from llm_proxy.messages.errors import comment, error_event, internal
from llm_proxy.messages.request import MessagesRequest, read_request
from llm_proxy.routing.attempts import Retry

_log = structlog.get_logger("llm_proxy.http")

USAGE_HEADER: Final = "x-pointsman-usage"

# Reading such a body takes 10 ms and more.
_LARGE_BODY: Final = 1024 * 1024
# Each may need some 200 MB while it is parsed.
_LARGE_BODIES: Final = 4
# Of one payer, while they arrive: who sends slowly keeps nobody else waiting.
_LARGE_BODIES_EACH: Final = 4
_READ_SECONDS: Final = 60.0

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
        self._parsing = asyncio.Semaphore(_LARGE_BODIES)
        self._arriving: WeakValueDictionary[Payer, asyncio.Semaphore] = WeakValueDictionary()

    async def create(self, http: web.Request) -> web.StreamResponse:
        """Ask a model; a stream when the body says so."""
        caller = await self._identity.caller(http.headers)
        request = await self._read(http, caller)
        # Only our relay asks for our own lines; to others they are noise.
        annotated = http.headers.get(USAGE_HEADER) == "1"
        if request.stream:
            return await self._stream(http, caller, request, annotated)
        return await self._whole(caller, request, annotated)

    async def count(self, http: web.Request) -> web.Response:
        """Count a request's tokens."""
        caller = await self._identity.caller(http.headers)
        request = await self._read(http, caller, counting=True)
        return web.json_response({"input_tokens": await self._gateway.count_tokens(request, caller)})

    async def _read(self, http: web.Request, caller: Caller, *, counting: bool = False) -> MessagesRequest:
        """Read and check a body; large ones a few at a time, and in a thread, so that nobody else waits."""
        if http.content_length is not None and http.content_length < _LARGE_BODY:
            return read_request(await http.read(), http.headers, counting=counting)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                arriving = self._arriving.setdefault(caller.payer, asyncio.Semaphore(_LARGE_BODIES_EACH))
                async with arriving:
                    raw = await http.read()
                async with self._parsing:
                    return await asyncio.to_thread(read_request, raw, http.headers, counting=counting)
        except TimeoutError:
            raise Failure(
                errors_pb2.ERROR_REASON_CALL_TIMED_OUT,
                f"The body could not be read within {_READ_SECONDS:g} seconds. Send it again.",
            ) from None

    async def _stream(
        self, http: web.Request, caller: Caller, request: MessagesRequest, annotated: bool
    ) -> web.StreamResponse:
        """Send the answer as it comes. An error before the first byte is an HTTP error, later an event."""
        response = web.StreamResponse(headers=_STREAM_HEADERS)
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
