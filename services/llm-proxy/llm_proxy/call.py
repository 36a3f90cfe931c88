"""One call to a model, from its reservation to its line in the ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from servicekit.context import log_fields

from llm_proxy.catalogue import Catalogue
from llm_proxy.ledger.ledger import Ledger, Outcome, Reservation
from llm_proxy.ledger.money import Pico, dollars
from llm_proxy.messages.request import MessagesRequest
from llm_proxy.messages.sse import StreamReader
from llm_proxy.messages.usage import TokenUsage
from llm_proxy.metrics import Metrics
from llm_proxy.routing.attempts import Answering, Retry
from llm_proxy.upstreams.portable import attached
from llm_proxy.upstreams.provider_failure import ProviderFailure

# Of text and JSON, for prompts whose tokens were not reported.
_BYTES_PER_TOKEN: Final = 4
_PICTURE_TOKENS: Final = 1_600


@dataclass(frozen=True)
class CallReport:
    """What a call used."""

    model: str
    usage: TokenUsage
    cost: Pico
    estimated: bool = False
    """Whether the tokens, or some of them, are an estimate, because the provider did not report them."""

    def data(self) -> dict[str, Any]:
        """Return it as our relay reads it."""
        return {
            "model": self.model,
            "input_tokens": self.usage.input_tokens,
            "output_tokens": self.usage.output_tokens,
            "cache_read_tokens": self.usage.cache_read_tokens,
            "cache_write_tokens": self.usage.cache_write_tokens,
            "cost_usd": dollars(self.cost),
            "estimated": self.estimated,
        }


class Call:
    """Keeps what is known of a call, and writes it down once."""

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger,
        metrics: Metrics,
        reservation: Reservation,
        request: MessagesRequest,
        *,
        model: str,
    ) -> None:
        self.model = model
        """The model that answers: a fallback's, once one took over."""
        self.reader = StreamReader()
        self._catalogue = catalogue
        self._ledger = ledger
        self._metrics = metrics
        self._reservation = reservation
        self._request = request
        self._started = time.monotonic()
        self._first_token: float | None = None
        self._deployment = ""
        self._retries = 0
        self._report: CallReport | None = None
        self._answering = False

    def retried(self, retry: Retry) -> None:
        """Take note of a failed attempt."""
        self._retries += 1
        self._metrics.retried(retry.model, retry.deployment, retry.failure.kind)

    def began(self, answering: Answering) -> None:
        """Take note of who answers."""
        self.model = answering.model
        self.reader = answering.reader
        self._deployment = answering.deployment.id
        self._answering = True

    def first_token(self) -> None:
        """Take note that the answer itself has begun. Only the first time counts."""
        if self._first_token is None:
            self._first_token = time.monotonic() - self._started

    async def settled(self, message: Mapping[str, Any] | None = None) -> CallReport:
        """Pay for a whole answer: the `message`, or what the reader has read.

        Returns what it cost; a second time pays nothing.
        """
        if self._report is None:
            if message is None:
                usage, written = self.reader.usage, self.reader.guessed_tokens
                counted = self.reader.counted
            else:
                usage, written = (
                    TokenUsage().updated(message.get("usage") or {}),
                    _guess(message.get("content")),
                )
                counted = usage.output_tokens > 0
            await self._write("settled", self._complete(usage, written, counted=counted))
        assert self._report is not None  # noqa: S101 - `_write` sets it
        return self._report

    async def failed(self, failure: ProviderFailure, deployment: str) -> None:
        """Pay for what a provider sent before it failed, at this deployment: mostly nothing."""
        if self._report is None:
            self._deployment = deployment
            state = "cut" if self.reader.started else "failed"
            await self._write(state, self._so_far(), failure.to_failure(self.model).reason_name)

    async def abandoned(self) -> None:
        """Pay for what came before the caller left. After `settled` or `failed` this does nothing."""
        if self._report is None:
            state = "cut" if self._answering else "failed"
            await self._write(state, self._so_far(), "CALL_CANCELLED")

    def _so_far(self) -> tuple[TokenUsage, bool]:
        """Return the count of an answer that broke off, and whether it is an estimate."""
        if not self.reader.started:
            return self.reader.usage, False
        return self._complete(self.reader.usage, self.reader.guessed_tokens, counted=False)

    def _complete(self, usage: TokenUsage, written: int, *, counted: bool) -> tuple[TokenUsage, bool]:
        """Return the usage with an estimate of what was not reported, and whether there is one.

        `written` is an estimate of the answer's tokens, `counted` whether the provider has reported them.
        """
        estimate: dict[str, int] = {}
        if not counted and written > usage.output_tokens:
            estimate["output_tokens"] = written
        if not usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens:
            estimate["input_tokens"] = _prompt_tokens(self._request)
        return usage.updated(estimate), bool(estimate)

    async def _write(self, state: str, counted: tuple[TokenUsage, bool], reason: str = "") -> None:
        usage, estimated = counted
        cost = self._catalogue.price(self.model).cost(usage)
        self._report = CallReport(self.model, usage, cost, estimated)
        seconds = time.monotonic() - self._started
        self._metrics.finished(
            model=self.model,
            deployment=self._deployment,
            reason=reason or "OK",
            usage=usage,
            cost=cost,
            seconds=seconds,
            first_token=self._first_token,
        )
        log_fields(model=self.model, deployment=self._deployment, retries=str(self._retries))
        await self._ledger.settle(
            self._reservation,
            Outcome(
                state=state,
                model=self.model,
                usage=usage,
                cost=cost,
                deployment=self._deployment,
                retries=self._retries,
                first_token_seconds=self._first_token,
                reason=reason,
                estimated=estimated,
            ),
        )


def _guess(content: Any) -> int:
    """Return an estimate of the tokens of an answer's blocks."""
    return -(-len(json.dumps(content)) // _BYTES_PER_TOKEN) if content else 0


def _prompt_tokens(request: MessagesRequest) -> int:
    """Return an estimate of a prompt's tokens; each picture and document counts as a large picture."""
    media = 0
    size = request.size
    for data in attached(request.body):
        media += 1
        size -= len(data)
    return -(-size // _BYTES_PER_TOKEN) + media * _PICTURE_TOKENS
