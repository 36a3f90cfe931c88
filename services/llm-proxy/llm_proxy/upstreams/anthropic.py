"""Upstreams that speak Anthropic's Messages API: bytes pass through as they are."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, Self

import aiohttp

from llm_proxy.configuration.models import Deployment
from llm_proxy.configuration.secrets import Secrets
from llm_proxy.messages.request import CALL_ID_HEADER, MessagesRequest, model_prefix
from llm_proxy.messages.sse import event
from llm_proxy.upstreams.error_body import error_message
from llm_proxy.upstreams.portable import media_in
from llm_proxy.upstreams.protocol import upstream_model
from llm_proxy.upstreams.provider_failure import ProviderFailure, from_event, from_status

_DEFAULT_BASE: Final = "https://api.anthropic.com"
_VERSION: Final = "2023-06-01"
_OAUTH_PREFIX: Final = "sk-ant-oat"
_OAUTH_BETA: Final = "oauth-2025-04-20"

# A whole answer comes in one piece when it is done, so it may be silent this many times longer than a stream.
_WHOLE_ANSWER_FACTOR: Final = 10
_CONNECT_SECONDS: Final = 10.0
_MODEL_KEY: Final = re.compile(rb'"model"\s*:\s*\Z')
_ERROR_BYTES: Final = 64 * 1024
_ANSWER_BYTES: Final = 32 * 1024 * 1024
# What takes longer to read than to hand to a thread.
_READ_AT_ONCE_BYTES: Final = 256 * 1024


class AnthropicUpstream:
    """Passes requests on, with the provider's credential instead of the caller's."""

    def __init__(self, session: aiohttp.ClientSession, secrets: Secrets, timeout: float) -> None:
        self._session = session
        self._secrets = secrets
        self._timeout = timeout

    @asynccontextmanager
    async def open(
        self, deployment: Deployment, model: str, request: MessagesRequest
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `Upstream.open`."""
        silence = self._timeout * (1 if request.stream else _WHOLE_ANSWER_FACTOR)
        response = await self._post(deployment, model, request, "messages?beta=true", silence)
        try:
            if response.content_type == "text/event-stream" and request.stream:
                yield _Chunks(response.content, partial(self._failures, silence))
            else:
                with self._failures(silence):
                    body, message = await self._body(response, request)
                # A server that does not stream sends the message itself, which is read as one event.
                yield _whole(event("message", **message) if request.stream else body)
        finally:
            # Read to its end, it leaves its connection to the next call; else that is closed.
            response.release()

    async def _post(
        self, deployment: Deployment, model: str, request: MessagesRequest, path: str, silence: float
    ) -> aiohttp.ClientResponse:
        """Send a request; return the answer once it has begun, to be released. Raises ProviderFailure."""
        body = renamed(request, upstream_model(deployment, model).partition("/")[2])
        with self._failures(silence):
            response = await self._session.post(
                f"{_base(deployment)}/v1/{path}",
                data=body,
                headers=_headers(deployment, request),
                timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS, sock_read=silence),
                allow_redirects=False,
            )
            if response.status == 200 and response.headers.get("content-encoding", "identity") == "identity":
                return response
            try:
                if response.status == 200:
                    # Asked for without one. Nothing here decompresses what somebody else has packed.
                    raise ProviderFailure("invalid", 200, "it is compressed")
                raise await self._refused(response, request)
            finally:
                response.release()

    @contextmanager
    def _failures(self, silence: float) -> Iterator[None]:
        """Turn what a connection raises inside into a ProviderFailure."""
        try:
            yield
        except TimeoutError:
            raise ProviderFailure("timeout", message=f"not a byte for {silence:g} seconds") from None
        except aiohttp.ClientPayloadError:
            raise ProviderFailure("invalid", message="the connection was cut") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ProviderFailure("unavailable", message=self._secrets.redact(type(error).__name__)) from None

    async def _body(
        self, response: aiohttp.ClientResponse, request: MessagesRequest
    ) -> tuple[bytes, dict[str, Any]]:
        """Return a whole answer that is a message, as it came and as it reads."""
        body = await _read(response, _ANSWER_BYTES)
        try:
            long = len(body) > _READ_AT_ONCE_BYTES
            message = await asyncio.to_thread(json.loads, body) if long else json.loads(body)
        except (ValueError, RecursionError):
            kind = response.content_type
            raise ProviderFailure("invalid", response.status, f"it sent {kind} that is not JSON") from None
        if isinstance(message, dict) and message.get("error"):
            # Some servers send errors with the status of success.
            said = self._secrets.redact(error_message(body))
            raise from_event({"message": said}, media_in(request.body))
        if not isinstance(message, dict) or message.get("type") != "message":
            raise ProviderFailure("invalid", response.status, "it is not a message")
        return body, message

    async def _refused(self, response: aiohttp.ClientResponse, request: MessagesRequest) -> ProviderFailure:
        raw = await _read(response, _ERROR_BYTES)
        message = self._secrets.redact(error_message(raw))
        headers = {k.lower(): v for k, v in response.headers.items()}
        return from_status(response.status, message, headers, media_in(request.body))

    async def count_tokens(self, deployment: Deployment, model: str, request: MessagesRequest) -> int:
        """See `Upstream.count_tokens`."""
        response = await self._post(
            deployment, model, request, "messages/count_tokens?beta=true", self._timeout
        )
        try:
            with self._failures(self._timeout):
                raw = await _read(response, _ERROR_BYTES)
            return int(json.loads(raw)["input_tokens"])
        except (ValueError, KeyError, TypeError):
            raise ProviderFailure("invalid", response.status, "it is not a count") from None
        finally:
            response.release()


class _Chunks:
    """A stream's bytes as they come. No generator: there is one of these for each call."""

    def __init__(
        self, content: aiohttp.StreamReader, failures: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._content = content
        self._failures = failures

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with self._failures():
            data = await self._content.readany()
        if not data:
            raise StopAsyncIteration
        return data


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return a body, in however many pieces it comes, up to so many bytes."""
    pieces, size = list[bytes](), 0
    while size < most and (piece := await response.content.read(most - size)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


def renamed(request: MessagesRequest, name: str) -> bytes:
    """Return the body with the upstream's name of the model, and otherwise byte for byte as it came.

    Bytes are kept, because a provider's prompt cache goes by them. Where the name cannot be found without
    doubt, the body is written anew.
    """
    if request.model == name:
        return request.raw
    raw, old = request.raw, json.dumps(request.model).encode()
    if raw.startswith(first := model_prefix(request.model)):
        return model_prefix(name) + raw[len(first) :]
    start = raw.find(old)
    if start >= 0 and raw.find(old, start + 1) < 0 and _MODEL_KEY.search(raw, max(0, start - 64), start):
        return raw[:start] + json.dumps(name).encode() + raw[start + len(old) :]
    return json.dumps({**request.body, "model": name}).encode()


def _base(deployment: Deployment) -> str:
    base = str(deployment.params.get("api_base", _DEFAULT_BASE)).rstrip("/")
    return base.removesuffix("/messages").removesuffix("/v1")


def _headers(deployment: Deployment, request: MessagesRequest) -> Mapping[str, str]:
    key = str(deployment.params.get("api_key", ""))
    betas = [beta.strip() for beta in request.headers.get("anthropic-beta", "").split(",") if beta.strip()]
    headers = {
        "content-type": "application/json",
        "accept-encoding": "identity",
        "anthropic-version": request.headers.get("anthropic-version", _VERSION),
    }
    if key.startswith(_OAUTH_PREFIX):
        headers["authorization"] = f"Bearer {key}"
        if _OAUTH_BETA not in betas:
            betas.append(_OAUTH_BETA)
    elif key:
        headers["x-api-key"] = key
    if request.call_id:
        headers[CALL_ID_HEADER] = request.call_id
    if betas:
        headers["anthropic-beta"] = ",".join(betas)
    extra: Any = deployment.params.get("extra_headers") or {}
    return {**headers, **{str(name): str(value) for name, value in dict(extra).items()}}
