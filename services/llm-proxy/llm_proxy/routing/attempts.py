"""One call to a model: attempts at its deployments, pauses between them, then fallbacks."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from llm_proxy.catalogue import DEMO, Catalogue
from llm_proxy.configuration.models import Deployment
from llm_proxy.configuration.settings import RoutingSettings
from llm_proxy.messages.ids import Ids
from llm_proxy.messages.request import MessagesRequest
from llm_proxy.messages.sse import StreamReader
from llm_proxy.routing.picker import Picker
from llm_proxy.upstreams.portable import media_in, without_thinking
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
    """An answer that has begun, to be entered at once. Its chunks are to be read while inside."""

    model: str
    deployment: Deployment
    chunks: AsyncIterator[bytes]
    """The rest of the answer, after `beginning`."""
    beginning: bytes
    reader: StreamReader
    """Has read the beginning of a stream."""
    _stack: AsyncExitStack = field(repr=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back. A ProviderFailure tells the router that this deployment failed."""
        if not isinstance(error, ProviderFailure):
            await self._stack.aclose()
            return
        try:
            await self._stack.__aexit__(kind, error, trace)
        except ProviderFailure as same:
            if same is not error:
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

    def asking(self, model: str, request: MessagesRequest, *, priced: bool = False) -> Asking:
        """Return the search for an answer, which has not begun.

        With `priced`, no fallback takes over whose price is not known.
        """
        return Asking(self, model, request, priced)

    async def pick(self, model: str, tried: Sequence[str]) -> Deployment:
        """Return where to ask a model next. Raises ProviderFailure."""
        if model == DEMO:
            return _DEMO_PLACE
        return await self._picker.pick(model, self._catalogue.deployments(model), tried)

    async def begin(self, model: str, deployment: Deployment, request: MessagesRequest) -> Answering:
        """Ask, and wait for the first of the answer, since until then another attempt is possible."""
        stack = AsyncExitStack()
        try:
            stack.enter_context(self._picker.calling(model, deployment))
            chunks = await stack.enter_async_context(
                self.upstream(deployment).open(deployment, model, request)
            )
            reader = StreamReader(_ids(deployment, request))
            first = await _beginning(chunks, reader, request) if request.stream else await anext(chunks, b"")
        except BaseException as error:
            # Also cancellation: the connection must not outlive its call.
            await stack.__aexit__(type(error), error, error.__traceback__)
            raise
        return Answering(model, deployment, chunks, first, reader, stack)

    def upstream(self, deployment: Deployment) -> Upstream:
        """Return the way to ask a deployment."""
        if deployment is _DEMO_PLACE:
            return self._demo
        return self._anthropic if deployment.provider == "anthropic" else self._translated

    async def count_tokens(self, model: str, request: MessagesRequest) -> int:
        """Return how many tokens a request has, by whoever knows best. Raises ProviderFailure."""
        deployment = await self.pick(model, ())
        return await self.upstream(deployment).count_tokens(deployment, model, request)

    def retries(self, failure: ProviderFailure) -> int:
        """Return how many attempts may follow the first when this is what goes wrong."""
        return self._settings.retries.retries(failure.kind)

    def pause(self, model: str, tried: Sequence[str], attempt: int, failure: ProviderFailure) -> float:
        """Return the seconds until the next attempt: none when a deployment is left that was not tried."""
        usable = {place.id for place in self._catalogue.deployments(model) if not place.missing}
        if usable - set(tried):
            return 0.0
        backoff = _FIRST_PAUSE * (2 ** (attempt - 1) if self._settings.retries.exponential else 1)
        jittered = min(backoff, _LONGEST_BACKOFF) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing
        return max(jittered, self._settings.retry_after, failure.retry_after or 0.0)

    def fallbacks(self, model: str, failure: ProviderFailure, *, priced: bool) -> Sequence[str]:
        """Return the models that take over from this one, in their order."""
        settings = self._settings
        table = {
            "context": settings.context_window_fallbacks,
            "policy": settings.content_policy_fallbacks,
        }.get(failure.kind, settings.fallbacks)
        names = table.get(model, () if failure.kind == "request" else settings.default_fallbacks)
        usable = [
            name
            for name in names
            if name != model and self._can_ask(name) and (not priced or self._catalogue.price(name).known)
        ]
        return usable[: settings.max_fallbacks]

    def _can_ask(self, model: str) -> bool:
        return model == DEMO or any(not place.missing for place in self._catalogue.deployments(model))


class Asking:
    """The search for an answer to one request: attempts at a model's deployments, then its fallbacks."""

    def __init__(self, attempts: Attempts, model: str, request: MessagesRequest, priced: bool) -> None:
        self._attempts = attempts
        self._priced = priced
        self._request = request
        self._model = model
        self._others: deque[str] | None = None
        """The fallbacks that are left; None until the first model has failed for good."""
        self.deployment = ""
        """The deployment that was asked last; empty before there was one."""
        self._tried: list[str] = []
        self._attempt = 0
        self._pause = 0.0

    async def step(self) -> Retry | Answering:
        """Make one attempt. After a Retry there is another step, which begins with its pause.

        Raises ProviderFailure when there is no sense in asking again.
        """
        if self._attempt:
            await asyncio.sleep(self._pause)
        self._attempt += 1
        picked = ""
        try:
            deployment = await self._attempts.pick(self._model, self._tried)
            self.deployment = picked = deployment.id
            self._tried.append(picked)
            return await self._attempts.begin(self._model, deployment, self._request)
        except ProviderFailure as failure:
            return self._again(failure, picked)

    def _again(self, failure: ProviderFailure, deployment: str) -> Retry:
        changed = _answerable(self._request, failure)
        if changed is not None:
            self._request = changed
            self._tried.pop()
            self._pause = 0.0
            return Retry(self._attempt, self._attempt + 1, 0.0, failure, self._model, deployment)
        most = self._attempts.retries(failure)
        pause = self._attempts.pause(self._model, self._tried, self._attempt, failure)
        if self._attempt > most or pause > LONGEST_PAUSE_SECONDS:
            return self._elsewhere(failure)
        self._pause = pause
        return Retry(self._attempt, most + 1, pause, failure, self._model, deployment)

    def _elsewhere(self, failure: ProviderFailure) -> Retry:
        """Turn to the next fallback; raise the failure when there is none."""
        if self._others is None:
            self._others = deque(self._attempts.fallbacks(self._model, failure, priced=self._priced))
        if not self._others:
            raise failure
        failed, self._model = self._model, self._others.popleft()
        self._tried, self._attempt, self._pause = [], 0, 0.0
        return Retry(1, 1, 0.0, failure, failed, "")


def _answerable(request: MessagesRequest, failure: ProviderFailure) -> MessagesRequest | None:
    """Return the request as the provider would take it, without loss to the caller; None for no such."""
    if failure.most_output and failure.most_output < request.max_tokens:
        # The caller's limit is only a limit: a shorter answer keeps to it.
        return request.with_max_tokens(failure.most_output)
    messages = request.body["messages"]
    if failure.refuses_thinking and (plain := without_thinking(messages)) != messages:
        return request.with_field("messages", plain)
    return None


def _ids(deployment: Deployment, request: MessagesRequest) -> Ids | None:
    """Return what gives an answer its ids; None where the provider's own are unique."""
    own = deployment.provider == "anthropic" and "api_base" not in deployment.params
    return None if own or not request.call_id else Ids(request.call_id, request.body["messages"])


async def _beginning(chunks: AsyncIterator[bytes], reader: StreamReader, request: MessagesRequest) -> bytes:
    """Return a stream's bytes up to the first of the answer itself, which until then can be asked for anew.

    Raises ProviderFailure when there is an error instead, or the stream is none. A provider that says `ping`
    takes its time: what it has sent by then is not held back.
    """
    held, read = b"", 0
    async for chunk in chunks:
        read += len(chunk)
        held += reader.feed(chunk)
        if reader.error is not None:
            raise from_event(reader.error, media_in(request.body))
        if reader.broken or (read > _LONGEST_BEGINNING and not reader.started):
            raise ProviderFailure("invalid", message="it is not a stream of events")
        if reader.has_content or reader.stop_reason or reader.pinged or read > _LONGEST_BEGINNING:
            return held
    held += reader.end()
    if reader.error is not None:
        raise from_event(reader.error, media_in(request.body))
    if reader.finished:
        return held
    raise ProviderFailure("invalid", message="the stream ended before the answer began")
