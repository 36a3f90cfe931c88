"""Upstreams that speak another language: LiteLLM translates to it and back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from servicekit.errors import Failure

from llm_proxy.configuration.models import Deployment
from llm_proxy.configuration.secrets import Secrets
from llm_proxy.messages.assemble import Assembler
from llm_proxy.messages.ids import Ids
from llm_proxy.messages.request import CALL_ID_HEADER, MessagesRequest
from llm_proxy.messages.sse import StreamReader
from llm_proxy.routing.litellm_library import LitellmLibrary
from llm_proxy.upstreams.client_tools import as_function
from llm_proxy.upstreams.error_body import told
from llm_proxy.upstreams.portable import media_in, portable
from llm_proxy.upstreams.protocol import upstream_model
from llm_proxy.upstreams.provider_failure import ProviderFailure, from_event, from_status

# What other providers have a counterpart of. The rest is Anthropic's own and is left out for them.
_FIELDS: Final = (
    "messages", "system", "max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "tools",
    "tool_choice", "thinking", "output_config", "output_format",
)  # fmt: skip

_GRACE_SECONDS: Final = 5.0
_CUTS: Final = (b'"max_tokens"', b'"refusal"', b'"model_context_window_exceeded"')

# Settings of a deployment that are about routing, not about the request.
_ROUTING_PARAMS: Final = frozenset(
    {"weight", "order", "rpm", "tpm", "tags", "max_parallel_requests", "cooldown_time"}
)


class TranslatedUpstream:
    """Asks through LiteLLM. Always as a stream: then a silence is noticed, and one path is to be trusted."""

    def __init__(self, library: LitellmLibrary, secrets: Secrets, timeout: float) -> None:
        self._library = library
        self._secrets = secrets
        self._timeout = timeout

    @asynccontextmanager
    async def open(
        self, deployment: Deployment, model: str, request: MessagesRequest
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `Upstream.open`."""
        litellm = await self._library.loaded()
        name = upstream_model(deployment, model)
        media = media_in(request.body)
        body = translatable(request.body, model=name, pdf=litellm.utils.supports_pdf_input(name))
        with self._failures(litellm, media):
            async with asyncio.timeout(self._timeout):
                source = await litellm.anthropic_messages(
                    model=name,
                    stream=True,
                    # A little later than ours, which tells more plainly what happened.
                    timeout=self._timeout + _GRACE_SECONDS,
                    max_retries=0,
                    num_retries=0,
                    **_settings(deployment, request),
                    **body,
                )
        chunks = self._chunks(litellm, source, media)
        try:
            yield chunks if request.stream else _assembled(chunks, request, media)
        finally:
            await chunks.aclose()

    async def _chunks(self, litellm: Any, source: Any, media: frozenset[str]) -> AsyncGenerator[bytes, None]:
        answered = False
        try:
            while True:
                with self._failures(litellm, media):
                    async with asyncio.timeout(self._timeout):
                        chunk = await anext(source, None)
                if chunk is None:
                    return
                if not chunk:
                    continue
                if chunk.startswith(b"event: error"):
                    raise self._in_stream(chunk, media)
                answered = answered or _has_answer(chunk)
                if not answered and _ends_as_if_whole(chunk):
                    # LiteLLM makes a well-formed end of nothing, also of what was no answer at all.
                    raise ProviderFailure("invalid", message="there was nothing in it")
                yield chunk
        finally:
            if hasattr(source, "aclose"):
                await source.aclose()

    def _in_stream(self, chunk: bytes, media: frozenset[str]) -> ProviderFailure:
        """Return the failure that LiteLLM put into the stream, as one event, instead of raising it."""
        reader = StreamReader()
        reader.feed(chunk)
        error = dict(reader.error or {})
        message = self._secrets.redact(_plain(str(error.get("message", ""))))
        if "timeout" in message.lower():
            return ProviderFailure("timeout", message=message)
        failure = from_event({**error, "message": message}, media)
        if failure.kind == "unavailable" and error.get("type", "api_error") == "api_error":
            # It says so of everything that ended a stream, most of all of connections that were cut.
            return ProviderFailure("invalid", message=message)
        return failure

    def _failures(self, litellm: Any, media: frozenset[str]) -> _Failures:
        return _Failures(litellm, self._secrets, self._timeout, media)

    async def count_tokens(self, deployment: Deployment, model: str, request: MessagesRequest) -> int:
        """See `Upstream.count_tokens`. An estimate by LiteLLM's tokenizers; no provider is asked."""
        litellm = await self._library.loaded()
        name = upstream_model(deployment, model)

        def count() -> int:
            body = request.body
            texts = [json.dumps(body.get(part)) for part in ("system", "messages", "tools") if body.get(part)]
            return int(litellm.token_counter(model=name, text="\n".join(texts)))

        return await asyncio.to_thread(count)


def _ends_as_if_whole(chunk: bytes) -> bool:
    """Whether an event ends an answer without a limit or a filter, which an empty one may have met."""
    if not chunk.startswith(b"event: message_delta"):
        return False
    return not any(reason in chunk for reason in _CUTS)


def _has_answer(chunk: bytes) -> bool:
    """Whether an event brings something of the answer; a tool that takes no input has no delta."""
    if chunk.startswith(b"event: content_block_start"):
        return b'"tool_use"' in chunk
    return chunk.startswith(b"event: content_block_delta")


class _Failures:
    """Turns whatever LiteLLM raises inside into a ProviderFailure."""

    def __init__(self, litellm: Any, secrets: Secrets, timeout: float, media: frozenset[str]) -> None:
        self._litellm = litellm
        self._secrets = secrets
        self._timeout = timeout
        self._media = media

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, (ProviderFailure, Failure)):
            return
        raise self._translated(error) from None

    def _translated(self, error: Exception) -> ProviderFailure:
        errors = self._litellm.exceptions
        if isinstance(error, (TimeoutError, errors.Timeout)):
            return ProviderFailure("timeout", message=f"not a byte for {self._timeout:g} seconds")
        message = self._secrets.redact(_plain(str(getattr(error, "message", error))))
        status = getattr(error, "status_code", None)
        sent = getattr(error, "litellm_response_headers", None) or getattr(error, "headers", None) or {}
        headers = {str(name).lower(): str(value) for name, value in dict(sent).items()}
        if isinstance(error, errors.ContextWindowExceededError):
            return from_status(400, f"context_length_exceeded: {message}", headers)
        if isinstance(error, errors.ContentPolicyViolationError):
            return ProviderFailure("policy", 400, message)
        if isinstance(error, errors.APIConnectionError):
            return ProviderFailure("unavailable", message=message)
        if not isinstance(status, int):
            # LiteLLM stumbled over what came: the answer was not what the provider's API promises.
            return ProviderFailure("invalid", message=type(error).__name__)
        return from_status(status, message, headers, self._media)


def _plain(message: str) -> str:
    """Return a message without LiteLLM's class names and debugging hints, out of whatever quotes it."""
    text = message
    while text.startswith("litellm.") and ": " in text:
        text = text.split(": ", 1)[1]
    for _ in range(2):
        head, _, rest = text.partition(": ")
        if rest and head.endswith(("Error", "Exception")) and " " not in head:
            text = rest
    head, _, rest = text.partition(" - ")
    if rest and head.endswith("Exception") and " " not in head:
        text = rest
    return told(text).split("\n", maxsplit=1)[0]


async def _assembled(
    chunks: AsyncIterator[bytes], request: MessagesRequest, media: frozenset[str]
) -> AsyncIterator[bytes]:
    reader = StreamReader(Ids(request.call_id, request.body["messages"]))
    assembler = Assembler()
    async for chunk in chunks:
        assembler.feed(reader.feed(chunk))
    assembler.feed(reader.end())
    if reader.error is not None:
        raise from_event(reader.error, media)
    if not reader.finished:
        raise ProviderFailure("invalid", message="the stream ended before the answer did")
    yield json.dumps(assembler.message()).encode()


def _settings(deployment: Deployment, request: MessagesRequest) -> dict[str, Any]:
    """Return what LiteLLM is told beside the request."""
    kept = {key: value for key, value in deployment.params.items() if key not in _ROUTING_PARAMS}
    return {**kept, "extra_headers": {CALL_ID_HEADER: request.call_id, **(kept.get("extra_headers") or {})}}


def translatable(body: Mapping[str, Any], *, model: str = "", pdf: bool = False) -> dict[str, Any]:
    """Return what of a request can be said in another provider's language. Raises ProviderFailure."""
    kept = {name: body[name] for name in _FIELDS if name in body}
    kept["messages"] = portable(kept["messages"], model=model, pdf=pdf)
    if "tools" in kept:
        kept["tools"] = [as_function(tool, f"tools[{index}]") for index, tool in enumerate(kept["tools"])]
    return kept
