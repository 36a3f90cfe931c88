"""Who asks a model, and what they may."""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure

from llm_proxy.ledger.money import Pico
from llm_proxy.ledger.scopes import Payer


@dataclass(frozen=True)
class Caller:
    """Whom a call is billed to, and its limits. `models` empty: every one. `turn_budget` None: no limit."""

    payer: Payer
    models: tuple[str, ...] = ()
    turn_budget: Pico | None = None

    def check_model(self, model: str) -> None:
        """Raise Failure SCOPE_MISSING unless this caller may ask the model."""
        if self.models and model not in self.models:
            raise Failure(
                errors_pb2.ERROR_REASON_SCOPE_MISSING,
                f"This session token is not for the model {model}. It is for: {', '.join(self.models)}.",
                required=f"model:{model}",
            )
