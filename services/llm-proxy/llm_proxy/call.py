"""One call to a model, from its reservation to its line in the ledger."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from servicekit.context import log_fields

from llm_proxy.catalogue import Catalogue
from llm_proxy.ledger.ledger import Ledger, Outcome, Reservation
from llm_proxy.ledger.money import Pico, dollars
from llm_proxy.messages.sse import StreamReader
from llm_proxy.messages.usage import TokenUsage
from llm_proxy.metrics import Metrics
from llm_proxy.routing.attempts import Answering, Retry
from llm_proxy.upstreams.provider_failure import ProviderFailure

# Bytes of an event with about one token in it, for answers that broke off before their count came.
_BYTES_PER_DELTA: Final = 110


@dataclass(frozen=True)
class CallReport:
    """What a call used."""

    model: str
    usage: TokenUsage
    cost: Pico

    def data(self) -> dict[str, Any]:
        """Return it as our relay reads it."""
        return {
            "model": self.model,
            "input_tokens": self.usage.input_tokens,
            "output_tokens": self.usage.output_tokens,
            "cache_read_tokens": self.usage.cache_read_tokens,
            "cache_write_tokens": self.usage.cache_write_tokens,
            "cost_usd": dollars(self.cost),
        }


class Call:
    """Keeps what is known of a call, and writes it down once."""

    def __init__(
        self, catalogue: Catalogue, ledger: Ledger, metrics: Metrics, reservation: Reservation, model: str
    ) -> None:
        self.model = model
        """The model that answers: a fallback's, once one took over."""
        self.reader = StreamReader()
        self._catalogue = catalogue
        self._ledger = ledger
        self._metrics = metrics
        self._reservation = reservation
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

    async def settled(self) -> CallReport:
        """Pay for a whole answer. Returns what it cost; a second time pays nothing."""
        if self._report is None:
            await self._write("settled", self.reader.usage)
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

    def _so_far(self) -> TokenUsage:
        """Return the count of an answer that broke off: as told, or a guess from the deltas that came."""
        guessed = self.reader.text_bytes // _BYTES_PER_DELTA
        return self.reader.usage.updated({"output_tokens": guessed})

    async def _write(self, state: str, usage: TokenUsage, reason: str = "") -> None:
        cost = self._catalogue.price(self.model).cost(usage)
        self._report = CallReport(self.model, usage, cost)
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
            ),
        )
