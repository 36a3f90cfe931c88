"""The core that both faces share: a checked request in, an answer out, and every call paid for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from llm_proxy.answer_cache import AnswerCache
from llm_proxy.call import Call, CallReport
from llm_proxy.caller import Caller
from llm_proxy.catalogue import Catalogue
from llm_proxy.ledger.ledger import Ledger
from llm_proxy.messages.request import MessagesRequest
from llm_proxy.messages.usage import TokenUsage
from llm_proxy.metrics import Metrics
from llm_proxy.routing.attempts import Answering, Asking, Attempts, Retry
from llm_proxy.upstreams.portable import media_in
from llm_proxy.upstreams.provider_failure import ProviderFailure, from_event

# What follows the end of a message comes with it, or never.
_DRAIN_SECONDS: Final = 0.5

__all__ = ["Chunk", "Done", "Gateway"]


@dataclass(frozen=True)
class Chunk:
    """Bytes of the answer."""

    data: bytes


@dataclass(frozen=True)
class Done:
    """The end of the answer: it is whole, and in the ledger."""

    report: CallReport


class Gateway:
    """Asks models on behalf of callers."""

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger,
        attempts: Attempts,
        metrics: Metrics,
        cache: AnswerCache | None = None,
        *,
        unpriced_free: bool = False,
    ) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._attempts = attempts
        self._metrics = metrics
        self._cache = cache
        self._unpriced_free = unpriced_free

    async def ask(self, caller: Caller, request: MessagesRequest) -> AsyncIterator[Retry | Chunk | Done]:
        """Yield retries, then the bytes of the answer, then Done. Raises Failure, also in mid-stream.

        What has been yielded last is in the ledger before the answer's last bytes are given out: who has seen
        a whole answer has paid for it, whatever dies next. Closing the iterator stops the provider.
        """
        model = self._catalogue.resolve(request.model)
        caller.check_model(model)
        key = self._cache.key(caller.payer.tenant, model, request) if self._cache is not None else None
        kept = self._cache.get(key) if self._cache is not None and key is not None else None
        if kept is not None:
            self._metrics.cached(model)
            yield Chunk(kept)
            yield Done(CallReport(model, TokenUsage(), 0))
            return
        call, asking = await self._begun(caller, request, model)
        answer: list[bytes] = []
        try:
            while isinstance(answering := await asking.step(), Retry):
                call.retried(answering)
                yield answering
            async with answering:
                call.began(answering)
                async for data in _streamed(answering) if request.stream else _in_one_piece(answering):
                    yield await (_passed(call, data, request) if request.stream else _whole(call, data))
                    if key is not None:
                        answer.append(data)
            yield Done(await call.settled())
            if self._cache is not None and key is not None:
                self._cache.put(key, b"".join(answer))
        except ProviderFailure as failure:
            await call.failed(failure, asking.deployment)
            raise failure.to_failure(call.model) from None
        finally:
            # The caller left, or the service is stopping: settle what has come so far.
            await call.abandoned()

    async def _begun(self, caller: Caller, request: MessagesRequest, model: str) -> tuple[Call, Asking]:
        """Set the money aside. Raises Failure MODEL_UNPRICED or BUDGET_EXCEEDED."""
        price = self._catalogue.price(model)
        # Nobody could keep a budget without knowing what a model costs.
        priced = not self._unpriced_free and self._ledger.limited(caller.payer, caller.turn_budget)
        if priced and not price.known:
            raise _unpriced(model)
        most = price.most(request.size, request.max_tokens)
        reservation = await self._ledger.reserve(caller.payer, model, most, caller.turn_budget)
        known = replace(request, call_id=reservation.id)
        call = Call(self._catalogue, self._ledger, self._metrics, reservation, known, model=model)
        return call, self._attempts.asking(model, known, priced=priced)

    async def count_tokens(self, request: MessagesRequest, caller: Caller) -> int:
        """Return how many tokens a request has. Costs nothing and is in no ledger.

        Raises Failure, BUDGET_EXCEEDED among them: who may not ask a model may not have it count either.
        """
        model = self._catalogue.resolve(request.model)
        caller.check_model(model)
        await self._ledger.check(caller.payer, caller.turn_budget)
        try:
            return await self._attempts.count_tokens(model, request)
        except ProviderFailure as failure:
            raise failure.to_failure(model) from None


def _unpriced(model: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_MODEL_UNPRICED,
        f"A budget applies to this call, and nobody knows what {model} costs. The operator can say it in the "
        "models' file, as input_cost_per_token and output_cost_per_token in the model's model_info, or set "
        "pointsman_settings.unpriced to free. Or ask a model that ListModels calls priced.",
        model=model,
    )


async def _streamed(answering: Answering) -> AsyncIterator[bytes]:
    """Yield a stream's bytes, put in order, to the end of its message. Raises ProviderFailure."""
    reader = answering.reader
    data = answering.beginning
    while not reader.finished:
        yield data
        try:
            chunk = await anext(answering.chunks, b"")
        except ProviderFailure:
            if not reader.stop_reason:
                raise
            # The answer is whole; only its last formal event is missing.
            chunk = b""
        data = reader.feed(chunk) if chunk else reader.end()
        if not chunk and not reader.finished:
            yield data
            raise ProviderFailure("invalid", message="the stream ended before the answer did")
    yield data
    await _drained(answering)


async def _drained(answering: Answering) -> None:
    """Read what follows the end, mostly nothing, so that the connection can be used again."""
    with suppress(TimeoutError, ProviderFailure):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await anext(answering.chunks, b""):
                pass


async def _in_one_piece(answering: Answering) -> AsyncIterator[bytes]:
    yield answering.beginning


async def _passed(call: Call, data: bytes, request: MessagesRequest) -> Chunk:
    """Return bytes that were read, after what they say has been acted on."""
    reader = call.reader
    if reader.has_content:
        call.first_token()
    if reader.error is not None:
        raise from_event(reader.error, media_in(request.body))
    if reader.broken:
        raise ProviderFailure("invalid", message="it is not a stream of events")
    if reader.finished:
        await call.settled()
    return Chunk(data)


async def _whole(call: Call, body: bytes) -> Chunk:
    """Return an answer in one piece, after it has been paid for."""
    call.first_token()
    await call.settled(json.loads(body))
    return Chunk(body)
