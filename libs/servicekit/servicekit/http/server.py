"""An HTTP server for callers that are not trusted: aiohttp's, with our limits and with typed errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiohttp import StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from pointsman.errors.v1 import errors_pb2

from servicekit.errors import Failure
from servicekit.http.framing import malformed

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Answer = Callable[[Failure], web.Response]

# A client that sends all of its body before it reads still gets its refusal: one that is a little over the
# limit of 32 MiB. What is thrown away costs no more than receiving it.
_DISCARDED_BYTES: Final = 64 * 1024 * 1024
_DISCARDED_SECONDS: Final = 5.0
_HEADER_BYTES: Final = 32 * 1024

_log = structlog.get_logger("servicekit.http")


class HttpServer(web.Server):
    """Serves `handler` on at most `connections` connections.

    Bodies are never decompressed. A connection is not used again after a request whose body was not read to
    its end, or came in chunks: chunks may end with headers (trailers), which aiohttp takes for part of the
    next request. `answer` gives a Failure the endpoint's own shape; it is used for requests that are not
    HTTP, and for faults of ours.
    """

    def __init__(self, handler: Handler, answer: Answer, *, connections: int) -> None:
        super().__init__(self._handled, request_factory=_request, handler_cancellation=True)
        self._serve = handler
        self._most = connections
        self.answer = answer

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(self, asyncio.get_running_loop())

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        """Take a connection, or close it at once when there are too many: each is a descriptor of ours."""
        super().connection_made(handler, transport)
        if len(self.connections) > self._most:
            transport.abort()

    async def _handled(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._serve(request)
        if not request.content.at_eof():
            response.force_close()
            connection = request.protocol
            if isinstance(connection, _Connection):
                connection.discard_rest()
        return response


class _Request(web.BaseRequest):
    @property
    def keep_alive(self) -> bool:
        return super().keep_alive and hdrs.TRANSFER_ENCODING not in self.headers


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    return _Request(message, payload, protocol, writer, task, asyncio.get_running_loop())


class _Connection(web.RequestHandler):
    __slots__ = ("_answer", "_left")

    def __init__(self, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            # How aiohttp spells "none".
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
            lingering_time=_DISCARDED_SECONDS,
            max_field_size=_HEADER_BYTES,
        )
        self._answer = server.answer
        self._left: int | None = None

    def discard_rest(self) -> None:
        """Receive a little more without looking at it, then close."""
        self._left = _DISCARDED_BYTES

    def data_received(self, data: bytes) -> None:
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self.force_close()
                return
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer in the endpoint's shape. What the client sent is never repeated: it may not be its own."""
        if status >= 500 and not isinstance(exc, ConnectionError):
            _log.error("fault", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer had begun")
        response = self._answer(_failure(status, exc))
        response.force_close()
        return response


def _failure(status: int, error: BaseException | None) -> Failure:
    if status >= 500:
        return Failure(
            errors_pb2.ERROR_REASON_INTERNAL,
            "A fault of Pointsman's; the service's log has the details. Trying again may help.",
        )
    if isinstance(error, LineTooLong):
        return malformed("its target is longer than 8190 bytes, or a header longer than 32 KiB")
    return malformed(
        "it is not valid HTTP/1.1, for example because of two lengths, a length beside chunks, a missing "
        "Host, bare CR or LF, or more than 128 headers"
    )
