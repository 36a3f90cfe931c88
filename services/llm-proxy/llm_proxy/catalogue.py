"""Which models there are, which can be asked now, and what a name stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.config import ConfigError
from servicekit.errors import Failure

from llm_proxy.configuration.models import Deployment, ModelsConfiguration
from llm_proxy.messages.invalid import invalid
from llm_proxy.prices import ModelPrice, Prices

DEMO: Final = "demo/offline"
_DEMO_DESCRIPTION: Final = (
    "A demo without a language model: rules that do arithmetic, and work with files and commands through "
    "real tool calls. It serves when no provider's credential is set."
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]*(/[A-Za-z0-9~][A-Za-z0-9._:@+-]*)*")
# Claude Code and Anthropic's SDKs say their models without a provider.
_BARE_ANTHROPIC: Final = "claude-"
_LISTED: Final = 40


@dataclass(frozen=True)
class CatalogueModel:
    """A model as it is listed."""

    name: str
    display_name: str
    available: bool
    missing_credential: str
    price: ModelPrice
    is_default: bool = False
    description: str = ""

    @property
    def provider(self) -> str:
        """The part of the name before the first slash."""
        return self.name.partition("/")[0]


class Catalogue:
    """The models of the configuration, and the demo model."""

    def __init__(self, models: ModelsConfiguration, prices: Prices, default: str = "") -> None:
        self._deployments = models.deployments
        self._aliases = models.routing.aliases
        self._prices = prices
        self._named: dict[str, list[Deployment]] = {}
        self._wildcards: dict[str, list[Deployment]] = {}
        for deployment in models.deployments:
            table = self._wildcards if "*" in deployment.group else self._named
            table.setdefault(deployment.group, []).append(deployment)
        self._cached_prices: dict[str, ModelPrice] = {}
        self.default = ""
        self.default = self._choose_default(default)

    def _choose_default(self, wanted: str) -> str:
        """Return `MODEL`, else the first model that can be asked, else the demo. Raises ConfigError."""
        if wanted:
            try:
                return self._known(wanted)
            except Failure as failure:
                raise ConfigError(f"MODEL: {failure.message}") from None
        return next((name for name, places in self._named.items() if _available(places)), DEMO)

    @property
    def wildcards(self) -> Sequence[str]:
        """Names that stand for many, such as `groq/*`."""
        return tuple(self._wildcards)

    def models(self) -> Sequence[CatalogueModel]:
        """Return all models that have a name, those that can be asked first, then in the file's order."""
        listed = [self._describe(name, places) for name, places in self._named.items()]
        return sorted([*listed, self._demo()], key=lambda model: not model.available)

    def model(self, name: str) -> CatalogueModel:
        """Return the model that a name stands for. Raises Failure as `resolve` does."""
        model = self.resolve(name)
        return self._demo() if model == DEMO else self._describe(model, self.deployments(model))

    def _demo(self) -> CatalogueModel:
        return CatalogueModel(
            name=DEMO,
            display_name="Demo (offline)",
            available=True,
            missing_credential="",
            price=ModelPrice(tools=True, known=True),
            is_default=self.default == DEMO,
            description=_DEMO_DESCRIPTION,
        )

    def _describe(self, name: str, places: Sequence[Deployment]) -> CatalogueModel:
        info = places[0].info
        return CatalogueModel(
            name=name,
            display_name=str(info.get("display_name", name)),
            available=_available(places),
            missing_credential="" if _available(places) else places[0].missing[0],
            price=self.price(name),
            is_default=name == self.default,
            description=str(info.get("description", "")),
        )

    def resolve(self, name: str) -> str:
        """Return the model that a name stands for; empty stands for the default.

        Raises Failure INVALID_FIELD for what cannot be a name, MODEL_UNKNOWN for one that is none, and
        PROVIDER_CREDENTIAL_MISSING when nothing of it can be asked.
        """
        model = self._known(name) if name else self.default
        places = self.deployments(model)
        if model != DEMO and not _available(places):
            variables = " or ".join(places[0].missing)
            raise Failure(
                errors_pb2.ERROR_REASON_PROVIDER_CREDENTIAL_MISSING,
                f"The model {model} cannot be asked: {variables} is not set. Set it where Pointsman is "
                "started, or choose a model that ListModels calls available.",
                variable=places[0].missing[0],
                model=model,
            )
        return model

    def _known(self, name: str) -> str:
        name = self._aliases.get(name, name)
        if name == DEMO or name in self._named:
            return name
        if not _NAME.fullmatch(name) or len(name) > 256 or ".." in name or "//" in name:
            raise invalid("model", "must be a model's name as provider/name, without wildcards")
        if name.startswith(_BARE_ANTHROPIC):
            name = f"anthropic/{name}"
        if name in self._named or self._wildcard(name) is not None:
            return name
        raise self._unknown(name)

    def _unknown(self, name: str) -> Failure:
        names = [model.name for model in self.models()]
        known = ", ".join([*names[:_LISTED], *self.wildcards])
        return Failure(
            errors_pb2.ERROR_REASON_MODEL_UNKNOWN,
            f"There is no model {name}. There are: {known}.",
            model=name,
        )

    def _wildcard(self, name: str) -> str | None:
        """Return the longest wildcard that covers the name."""
        fitting = [card for card in self._wildcards if len(name) >= len(card) and _covers(card, name)]
        return max(fitting, key=len, default=None)

    def deployments(self, model: str) -> Sequence[Deployment]:
        """Return where a resolved model can be asked; nothing for the demo."""
        if model in self._named:
            return self._named[model]
        card = self._wildcard(model)
        return self._wildcards[card] if card is not None else ()

    def price(self, model: str) -> ModelPrice:
        """Return a resolved model's prices."""
        if model == DEMO:
            return ModelPrice(tools=True, known=True)
        price = self._cached_prices.get(model)
        if price is None:
            place = next(iter(self.deployments(model)), None)
            name = model if place is None or "*" in place.model else place.model
            price = self._prices.of(name, place.info if place is not None else {})
            # Wildcards let callers invent names; the table of those that were asked must not grow with them.
            if len(self._cached_prices) < 1000:
                self._cached_prices[model] = price
        return price


def _covers(card: str, name: str) -> bool:
    prefix, _, suffix = card.partition("*")
    return name.startswith(prefix) and name.endswith(suffix)


def _available(places: Sequence[Deployment]) -> bool:
    return any(not place.missing for place in places)
