"""The one way out of a sandbox: a Unix socket that leads to llm-proxy, and to nothing else.

The session is known by the socket, so nothing that the sandbox says about itself is believed. Requests are
passed on with the turn's session token, answers byte by byte; what llm-proxy says to us beside the answer is
taken out on the way. Without a running turn there is no way out at all.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure, reason_of

from runner.bounded import bounded_text, clean
from runner.relay.relay_notes import NoteFilter
from runner.relay.text_reader import ModelText, TextReader
from runner.relay.unix_socket import bound_socket
from runner.sandboxes.protocol import MIB, SOCKET_NAME

# The Messages API takes 32 MB.
_BODY_BYTES: Final = 32 * MIB
# The prompts and tools of an agent are some 80 KB; less than what aiohttp reads by itself.
_AT_ONCE_BYTES: Final = 512 * 1024
# As llm-proxy gives a body that comes to it in pieces.
_BODY_SECONDS: Final = 60.0
# A main agent, its sub-agents and the small calls beside them; more wait.
_CONCURRENT: Final = 16
# Kept-alive ones included; the CLI has a few.
_CONNECTIONS: Final = 64
_ERROR_BYTES: Final = 64 * 1024
# Of silence: a provider may think for minutes before its first byte.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=900)
_TOKEN_SECONDS: Final = 15.0
# The supervisor has a service that died back within a few seconds.
_CONNECT_PATIENCE: Final = 10.0
_CONNECT_PAUSE: Final = 0.1
_PATHS: Final = frozenset(
    {("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models")}
)
_REQUEST_HEADERS: Final = ("accept", "content-type", "anthropic-version", "anthropic-beta")
_ANSWER_HEADERS: Final = ("content-type", "retry-after", "x-should-retry", "request-id")


@dataclass
class Grant:
    """What a turn lets its sandbox's requests do, and where it hears of them."""

    ask: Callable[[], asyncio.Task[str]]
    """Begins to ask llm-proxy for a token."""
    note: Callable[[str, Mapping[str, Any]], None]
    """Takes what llm-proxy reports: `usage` or `retry`, and its values."""
    listen: Callable[[], ModelText] | None = None
    """Makes what takes the text of a streamed answer as it goes by, before the sandbox has it."""
    refusal: Failure | None = None
    """What llm-proxy refused last; None again after a call that succeeded."""
    _token: asyncio.Task[str] | None = None
    _closed: bool = False

    def token(self) -> asyncio.Task[str]:
        """Return the token, which is asked for the first time that it is wanted.

        Raises Failure TURN_NOT_FOUND after the turn's end: what was given out then, nobody would take back.
        """
        if self._closed:
            raise Failure(errors_pb2.ERROR_REASON_TURN_NOT_FOUND, "The turn that asked for a model is over.")
        if self._token is None:
            self._token = self.ask()
        return self._token

    def renew(self) -> None:
        """Ask for another token, which takes the place of the one before."""
        self._token = self.ask()

    def close(self) -> None:
        """Nobody wants the token any more."""
        self._closed = True
        if self._token is not None:
            self._token.cancel()


class Relay:
    """The door of one sandbox. `upstream` is llm-proxy's base URL; `http` is shared, its owner closes it."""

    def __init__(self, agent_dir: Path, owner: int, upstream: str, http: aiohttp.ClientSession) -> None:
        self._agent_dir = agent_dir
        self._owner = owner
        self._upstream = upstream
        self._http = http
        self._runner = web.ServerRunner(
            _BoundedServer(self._handle, handler_cancellation=True, access_log=None), shutdown_timeout=1.0
        )
        self._free = asyncio.Semaphore(_CONCURRENT)
        self.grant: Grant | None = None

    async def open(self) -> None:
        """Listen."""
        await self._runner.setup()
        await web.SockSite(self._runner, bound_socket(self._agent_dir, SOCKET_NAME, self._owner)).start()

    async def close(self) -> None:
        """Stop listening and break off what is under way."""
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "HEAD" and request.path == "/":
            return web.Response()
        if (request.method, request.path) not in _PATHS:
            return _refused(404, "not_found_error", "This sandbox can call the Messages API only.")
        grant = self.grant
        if grant is None:
            return _refused(403, "permission_error", "No turn is running, so no model can be called.")
        if (request.content_length or 0) > _BODY_BYTES:
            return _refused(413, "request_too_large", f"A request may have {_BODY_BYTES} bytes.")
        async with self._free:
            return await self._pass_on(request, grant)

    async def _pass_on(self, request: web.BaseRequest, grant: Grant) -> web.StreamResponse:
        try:
            async with asyncio.timeout(_TOKEN_SECONDS):
                token = await asyncio.shield(grant.token())
        except (Failure, TimeoutError) as error:
            grant.refusal = error if isinstance(error, Failure) else _unreachable()
            return _refused(503, "api_error", grant.refusal.message)
        headers = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
        headers |= {"authorization": f"Bearer {token}", "x-pointsman-usage": "1"}
        query = "?beta=true" if request.query.get("beta") == "true" else ""
        url = f"{self._upstream}{request.path}{query}"
        if request.method == "POST" and request.content_length is not None:
            # Told what comes, llm-proxy reads a small request at once.
            headers["content-length"] = str(request.content_length)
        try:
            return await self._passed_on(request, url, headers, grant)
        except _BodyTooLarge:
            return _refused(413, "request_too_large", f"A request may have {_BODY_BYTES} bytes.")
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError):
            grant.refusal = _unreachable()
            return _refused(503, "api_error", grant.refusal.message)
        except TimeoutError:
            return _refused(408, "api_error", f"The body did not come within {_BODY_SECONDS:g} seconds.")

    async def _passed_on(
        self, request: web.BaseRequest, url: str, headers: Mapping[str, str], grant: Grant
    ) -> web.StreamResponse:
        """Answer with what llm-proxy answers; one that starts again is waited for."""
        give_up = time.monotonic() + _CONNECT_PATIENCE
        body: bytes | AsyncIterator[bytes] | None = None
        if request.content_length is not None and request.content_length <= _AT_ONCE_BYTES:
            # One write here and one read there; in pieces, each costs both sides a turn of their loops.
            async with asyncio.timeout(_BODY_SECONDS):
                body = await request.read()
        while True:
            if request.method == "POST" and not isinstance(body, bytes):
                body = _bounded_body(request)
            try:
                async with self._http.request(
                    request.method, url, headers=headers, data=body, timeout=_TIMEOUT, allow_redirects=False
                ) as answer:
                    return await self._answer(request, answer, grant)
            except aiohttp.ClientConnectorError:
                # Nothing was sent, so nothing is asked twice.
                if time.monotonic() > give_up:
                    raise
            await asyncio.sleep(_CONNECT_PAUSE)

    async def _answer(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, grant: Grant
    ) -> web.StreamResponse:
        headers = {name: answer.headers[name] for name in _ANSWER_HEADERS if name in answer.headers}
        if answer.status >= 400:
            body = await answer.content.read(_ERROR_BYTES)
            grant.refusal = _refusal(answer, body)
            return web.Response(status=answer.status, headers=headers, body=body)
        grant.refusal = None
        if usage := answer.headers.get("x-pointsman-usage"):
            grant.note("usage", json.loads(usage))
        out = web.StreamResponse(status=answer.status, headers=headers)
        await out.prepare(request)
        notes = NoteFilter(lambda kind, values: _note(grant, kind, values))
        streamed = answer.content_type == "text/event-stream"
        text = TextReader(grant.listen()) if streamed and grant.listen is not None else None
        try:
            async for chunk in answer.content.iter_any():
                if passed := notes.feed(chunk):
                    if text is not None:
                        text.feed(passed)
                        # Who follows the turn comes first: to the agent's copy it makes no difference.
                        await asyncio.sleep(0)
                    await out.write(passed)
        finally:
            if text is not None:
                text.end()
        await out.write(notes.end())
        await out.write_eof()
        return out


class _BoundedServer(web.Server):
    """A server with so many connections and no more: each is a descriptor of ours."""

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        """Take a connection, or close it at once."""
        super().connection_made(handler, transport)
        if len(self.connections) > _CONNECTIONS:
            transport.abort()


class _BodyTooLarge(Exception):  # noqa: N818
    """A request without a length turned out too long."""


async def _bounded_body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > _BODY_BYTES:
            raise _BodyTooLarge
        yield chunk


def _refused(status: int, kind: str, message: str) -> web.Response:
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return web.json_response(body, status=status, headers={"x-should-retry": "false"})


def _unreachable() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        "The llm-proxy service cannot be reached; try again.",
        service="llm-proxy",
    )


def _note(grant: Grant, kind: str, values: Mapping[str, Any]) -> None:
    """Take a note of llm-proxy's. An error in mid-stream has its reason here and nowhere else."""
    if kind != "error":
        grant.note(kind, values)
        return
    reason = reason_of(str(values.get("reason", "")))
    if reason is not None:
        message = bounded_text(clean(values.get("message")), 2048)[0]
        grant.refusal = Failure(reason, message, status=str(values.get("status", 0)))


def _refusal(answer: aiohttp.ClientResponse, body: bytes) -> Failure | None:
    """Return what llm-proxy refused with, None when it gave no reason that we know."""
    reason = reason_of(answer.headers.get("x-pointsman-reason", ""))
    if reason is None:
        return None
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"The model's provider answered with HTTP status {answer.status}."
    return Failure(reason, bounded_text(clean(message), 2048)[0], status=str(answer.status))
