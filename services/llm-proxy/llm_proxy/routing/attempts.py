"""One call to a model: attempts at its deployments, pauses between them, then fallbacks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from llm_proxy.catalogue import DEMO, Catalogue
from llm_proxy.configuration.models import Deployment
from llm_proxy.configuration.settings import RoutingSettings
from llm_proxy.messages.request import MessagesRequest
from llm_proxy.messages.sse import StreamReader
from llm_proxy.routing.picker import Picker
from llm_proxy.upstreams.protocol import Upstream
from llm_proxy.upstreams.provider_failure import LONGEST_PAUSE_SECONDS, ProviderFailure, from_event

_FIRST_PAUSE: Final = 0.5
_LONGEST_BACKOFF: Final = 8.0
# Bytes before the answer itself; mostly there are a few hundred.
_LONGEST_BEGINNING: Final = 64 * 1024
_DEMO_PLACE: Final = Deployment(DEMO, DEMO, DEMO, {}, {})


@dataclass(frozen=True)
class Retry:
    """Another attempt will be made, after a pause."""

    attempt: int
    """The number of the attempt that failed, from 1."""
    max_attempts: int
    delay_seconds: float
    failure: ProviderFailure
    model: str
    deployment: str


@dataclass
class Answering:
    """An answer that has begun. Its chunks are to be read to the end, and `close` called in any case."""

    model: str
    deployment: Deployment
    chunks: AsyncIterator[bytes]
    """The rest of the answer, after `beginning`."""
    beginning: bytes
    reader: StreamReader
    """Has read the beginning of a stream."""
    retries: int
    _stack: AsyncExitStack = field(repr=False)

    async def close(self, failure: ProviderFailure | None = None) -> None:
        """Give the connection back; `failure` says how the answer broke off, None when it did not."""
        if failure is None:
            await self._stack.aclose()
            return
        try:
            # Unwinding with the failure tells the router that this deployment failed.
            await self._stack.__aexit__(type(failure), failure, failure.__traceback__)
        except ProviderFailure as same:
            if same is not failure:
                raise


class Attempts:
    """Asks until there is an answer or no sense in asking again."""

    def __init__(
        self,
        catalogue: Catalogue,
        picker: Picker,
        settings: RoutingSettings,
        *,
        anthropic: Upstream,
        translated: Upstream,
        demo: Upstream,
    ) -> None:
        self._catalogue = catalogue
        self._picker = picker
        self._settings = settings
        self._anthropic = anthropic
        self._translated = translated
        self._demo = demo

    async def open(self, model: str, request: MessagesRequest) -> AsyncIterator[Retry | Answering]:
        """Yield a Retry before each further attempt, and at last the answer. Raises ProviderFailure."""
        retries = 0
        models = [model]
        for current in models:
            try:
                async for step in self._attempt(current, request, retries):
                    if isinstance(step, Retry):
                        retries += 1
                    yield step
                return
            except ProviderFailure as failure:
                if current == model:
                    models.extend(self._fallbacks(model, failure))
                if current == models[-1]:
                    raise
                yield Retry(1, 1, 0.0, failure, current, "")
                retries += 1

    async def _attempt(
        self, model: str, request: MessagesRequest, retries: int
    ) -> AsyncIterator[Retry | Answering]:
        """Try one model at its deployments."""
        tried: list[str] = []
        attempt = 0
        while True:
            attempt += 1
            deployment = None
            try:
                deployment = await self._pick(model, tried)
                tried.append(deployment.id)
                yield await self._begin(model, deployment, request, retries + attempt - 1)
                return
            except ProviderFailure as failure:
                most = self._settings.retries.retries(failure.kind)
                pause = self._pause(attempt, failure, fresh=self._has_fresh(model, tried))
                if attempt > most or pause > LONGEST_PAUSE_SECONDS:
                    raise
                where = deployment.id if deployment is not None else ""
                yield Retry(attempt, most + 1, pause, failure, model, where)
                await asyncio.sleep(pause)

    async def _pick(self, model: str, tried: Sequence[str]) -> Deployment:
        if model == DEMO:
            return _DEMO_PLACE
        return await self._picker.pick(model, self._catalogue.deployments(model), tried)

    async def _begin(
        self, model: str, deployment: Deployment, request: MessagesRequest, retries: int
    ) -> Answering:
        """Ask, and wait for the first of the answer, since until then another attempt is possible."""
        stack = AsyncExitStack()
        try:
            stack.enter_context(self._picker.calling(model, deployment))
            chunks = await stack.enter_async_context(
                self.upstream(deployment).open(deployment, model, request)
            )
            reader = StreamReader()
            first = await _beginning(chunks, reader) if request.stream else await anext(chunks, b"")
        except BaseException as error:
            # Also cancellation: the connection must not outlive its call.
            await stack.__aexit__(type(error), error, error.__traceback__)
            raise
        return Answering(model, deployment, chunks, first, reader, retries, stack)

    def upstream(self, deployment: Deployment) -> Upstream:
        """Return the way to ask a deployment."""
        if deployment is _DEMO_PLACE:
            return self._demo
        return self._anthropic if deployment.provider == "anthropic" else self._translated

    async def count_tokens(self, model: str, request: MessagesRequest) -> int:
        """Return how many tokens a request has, by whoever knows best. Raises ProviderFailure."""
        deployment = await self._pick(model, ())
        return await self.upstream(deployment).count_tokens(deployment, model, request)

    def _has_fresh(self, model: str, tried: Sequence[str]) -> bool:
        """Whether a deployment is left that was not tried."""
        usable = {place.id for place in self._catalogue.deployments(model) if not place.missing}
        return bool(usable - set(tried))

    def _pause(self, attempt: int, failure: ProviderFailure, *, fresh: bool) -> float:
        """Return the seconds until the next attempt: none when another deployment can be asked."""
        if fresh:
            return 0.0
        backoff = _FIRST_PAUSE * (2 ** (attempt - 1) if self._settings.retries.exponential else 1)
        jittered = min(backoff, _LONGEST_BACKOFF) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing
        return max(jittered, self._settings.retry_after, failure.retry_after or 0.0)

    def _fallbacks(self, model: str, failure: ProviderFailure) -> Sequence[str]:
        settings = self._settings
        table = {
            "context": settings.context_window_fallbacks,
            "policy": settings.content_policy_fallbacks,
        }.get(failure.kind, settings.fallbacks)
        names = table.get(model, () if failure.kind == "request" else settings.default_fallbacks)
        usable = [name for name in names if name != model and self._can_ask(name)]
        return usable[: settings.max_fallbacks]

    def _can_ask(self, model: str) -> bool:
        return model == DEMO or any(not place.missing for place in self._catalogue.deployments(model))


async def _beginning(chunks: AsyncIterator[bytes], reader: StreamReader) -> bytes:
    """Return a stream's bytes up to the first of the answer itself, which until then can be asked for anew.

    Raises ProviderFailure when there is an error instead, or the stream is none. A provider that says `ping`
    takes its time: what it has sent by then is not held back.
    """
    held = b""
    async for chunk in chunks:
        held += chunk
        reader.feed(chunk)
        if reader.error is not None:
            raise from_event(reader.error)
        if reader.broken or (len(held) > _LONGEST_BEGINNING and not reader.started):
            raise ProviderFailure("invalid", message="it is not a stream of events")
        if reader.has_content or reader.stop_reason or reader.pinged or len(held) > _LONGEST_BEGINNING:
            return held
    raise ProviderFailure("invalid", message="the stream ended before the answer began")
