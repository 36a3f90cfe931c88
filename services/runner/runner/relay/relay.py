"""The one way out of a sandbox: a Unix socket that leads to llm-proxy, and to nothing else.

The session is known by the socket, so nothing that the sandbox says about itself is believed. A request is
not passed on as it came: path, headers and body are read, checked and written anew, with the turn's session
token, over connections that are this sandbox's own. Answers are passed on byte by byte, without the lines
that llm-proxy adds for the runner. An answer with too many tool calls is cut off, and the turn ends. Without
a running turn, every request is refused.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web
from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure, reason_of
from servicekit.http.body import body_pieces, read_body
from servicekit.http.framing import check_framing
from servicekit.http.messages_errors import error_data, error_headers, http_status
from servicekit.http.server import HttpServer

from runner.bounded import bounded_text, clean
from runner.relay.grant import Grant
from runner.relay.relay_notes import NoteFilter
from runner.relay.text_reader import TextReader
from runner.relay.tool_calls import ToolCallCounter, TooManyToolCalls
from runner.relay.unix_socket import bound_socket
from runner.relay.upstream import Body, Upstream
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
_TOKEN_SECONDS: Final = 15.0
# After these, asking again would only wait again.
_NOT_AGAIN: Final = (aiohttp.ClientConnectorError, TimeoutError)
_PATHS: Final = frozenset(
    {("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models")}
)
_REQUEST_HEADERS: Final = ("accept", "content-type", "anthropic-version", "anthropic-beta")
_ANSWER_HEADERS: Final = ("content-type", "retry-after", "x-should-retry", "request-id")


class Relay:
    """The relay of one sandbox: an HTTP server on its socket. `upstream` is llm-proxy's base URL."""

    def __init__(self, agent_dir: Path, owner: int, upstream: str) -> None:
        self._agent_dir = agent_dir
        self._owner = owner
        self._upstream = Upstream(upstream, _CONCURRENT)
        self._runner = web.ServerRunner(
            HttpServer(self._handle, _refused, connections=_CONNECTIONS), shutdown_timeout=1.0
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
        await self._upstream.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            check_framing(request, _BODY_BYTES)
            if request.method == "HEAD" and request.path == "/":
                return web.Response()
            if (request.method, request.path) not in _PATHS:
                raise Failure(
                    errors_pb2.ERROR_REASON_METHOD_UNIMPLEMENTED,
                    "This sandbox can call the Messages API only: POST /v1/messages, "
                    "POST /v1/messages/count_tokens, GET /v1/models.",
                )
            headers = _forwarded(request)
            grant = self.grant
            if grant is None:
                raise Failure(
                    errors_pb2.ERROR_REASON_SCOPE_MISSING, "No turn is running, so no model can be called."
                )
            async with self._free:
                return await self._pass_on(request, headers, grant)
        except Failure as failure:
            return _refused(failure)

    async def _pass_on(
        self, request: web.BaseRequest, headers: dict[str, str], grant: Grant
    ) -> web.StreamResponse:
        try:
            async with asyncio.timeout(_TOKEN_SECONDS):
                token = await asyncio.shield(grant.token())
        except (Failure, TimeoutError) as error:
            grant.refusal = error if isinstance(error, Failure) else _unreachable()
            raise grant.refusal from None
        headers |= {"authorization": f"Bearer {token}", "x-pointsman-usage": "1"}
        query = "?beta=true" if request.query.get("beta") == "true" else ""
        body = await _body(request)
        out = _Out(request)
        try:
            async with self._upstream.ask(request.method, f"{request.path}{query}", headers, body) as answer:
                return await self._answer(out, answer, grant, token)
        except (aiohttp.ClientError, TimeoutError) as error:
            if out.begun:
                # Too late for a status: the agent sees that the answer was cut off.
                raise ConnectionResetError from error
            if isinstance(error.__cause__, Failure):
                raise error.__cause__ from None
            grant.refusal = _unreachable()
            return _retryable(grant.refusal, again=not isinstance(error, _NOT_AGAIN))

    async def _answer(
        self, out: _Out, answer: aiohttp.ClientResponse, grant: Grant, token: str
    ) -> web.StreamResponse:
        headers = {name: answer.headers[name] for name in _ANSWER_HEADERS if name in answer.headers}
        if answer.status >= 400:
            # Whatever an error repeats, the token is not for the sandbox.
            body = (await answer.content.read(_ERROR_BYTES)).replace(token.encode(), b"")
            grant.refusal = _refusal(answer, body)
            return web.Response(status=answer.status, headers=headers, body=body)
        grant.refusal = None
        if usage := answer.headers.get("x-pointsman-usage"):
            grant.note("usage", json.loads(usage))
        response = await out.begin(answer.status, headers)
        notes = NoteFilter(lambda kind, values: _note(grant, kind, values))
        streamed = answer.content_type == "text/event-stream"
        text = TextReader(grant.listen()) if streamed and grant.listen is not None else None
        calls = ToolCallCounter(grant.calls)
        try:
            async for chunk in answer.content.iter_any():
                if passed := notes.feed(chunk):
                    calls.feed(passed)
                    if text is not None:
                        text.feed(passed)
                        # Who follows the turn comes first: to the agent's copy it makes no difference.
                        await asyncio.sleep(0)
                    await response.write(passed)
        except TooManyToolCalls as error:
            if not grant.over.done():
                grant.over.set_result(str(error))
            # The agent does not get the rest: the turn ends its sandbox.
            raise ConnectionResetError from error
        finally:
            if text is not None:
                text.end()
        await response.write(notes.end())
        await response.write_eof()
        return response


class _Out:
    """The answer to the sandbox, which may have begun or not."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self.begun = False

    async def begin(self, status: int, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send the status and headers."""
        response = web.StreamResponse(status=status, headers=headers)
        self.begun = True
        await response.prepare(self._request)
        return response


def _forwarded(request: web.BaseRequest) -> dict[str, str]:
    """Return the headers that go on. Raises Failure INVALID_FIELD for one that is not plain text."""
    headers = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            problem = "may hold printable ASCII characters only"
            raise Failure(
                errors_pb2.ERROR_REASON_INVALID_FIELD,
                f"The header {name} {problem}.",
                fields=[(name, problem)],
            )
    return headers


async def _body(request: web.BaseRequest) -> Body:
    """Return what goes on of the body: all at once when it is small, else something that reads it."""
    if request.method != "POST":
        return None
    if request.content_length is not None and request.content_length <= _AT_ONCE_BYTES:
        # One write here and one read there; in pieces, each costs both sides a turn of their loops.
        return await read_body(request, _AT_ONCE_BYTES, _BODY_SECONDS)
    return lambda: body_pieces(request, _BODY_BYTES, _BODY_SECONDS)


def _refused(failure: Failure) -> web.Response:
    return _retryable(failure, again=False)


def _retryable(failure: Failure, *, again: bool) -> web.Response:
    """Return an error; `again` leaves it to the agent's client whether it tries once more."""
    headers = error_headers(failure) if again else {**error_headers(failure), "x-should-retry": "false"}
    return web.json_response(error_data(failure), status=http_status(failure), headers=headers)


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
