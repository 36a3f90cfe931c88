"""What the operator says of money, in `pointsman_settings`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from llm_proxy.configuration.document import Document, Place, expect, mappings
from llm_proxy.ledger.money import Pico, pico

SCOPES: Final = ("turn", "session", "account", "tenant")
PERIODS: Final = ("day", "month", "total")
UNPRICED: Final = ("refuse", "free")

# As others spell them.
_PERIOD_WORDS: Final = {
    "daily": "day",
    "monthly": "month",
    "1d": "day",
    "24h": "day",
    "30d": "month",
    "1mo": "month",
}


@dataclass(frozen=True)
class Budget:
    """Most that may be spent in a scope within a period; days and months are UTC's.

    `tenant` and `account` limit whom it is for; empty means everybody, each with a limit of their own.
    """

    scope: str
    period: str
    limit: Pico
    tenant: str = ""
    account: str = ""


@dataclass(frozen=True)
class MoneySettings:
    """The operator's budgets, and what becomes of models that nobody knows the price of."""

    budgets: tuple[Budget, ...] = ()
    unpriced_free: bool = False
    """Whether such models count as free where a budget applies. If not, they are refused there."""


def read_money(document: Document) -> MoneySettings:
    """Read `pointsman_settings`. Raises ConfigError."""
    settings = dict(mappings(document, ("pointsman_settings",), document.data.get("pointsman_settings")))
    entries = settings.pop("budgets", [])
    unpriced = settings.pop("unpriced", "refuse")
    if unpriced not in UNPRICED:
        raise document.error(("pointsman_settings", "unpriced"), f"must be one of {', '.join(UNPRICED)}")
    for name in settings:
        raise document.error(("pointsman_settings", name), "is not a setting; those are budgets, unpriced")
    return MoneySettings(_read_budgets(document, entries), unpriced == "free")


def _read_budgets(document: Document, entries: Any) -> tuple[Budget, ...]:
    place = ("pointsman_settings", "budgets")
    expect(document, place, entries, list, "a list of budgets")
    return tuple(_read_budget(document, (*place, index), entry) for index, entry in enumerate(entries))


def _read_budget(document: Document, place: Place, entry: Any) -> Budget:
    values = dict(mappings(document, place, entry))
    for name in values:
        if name not in ("scope", "period", "limit_usd", "tenant", "account"):
            raise document.error(
                (*place, name), "is not part of a budget: scope, period, limit_usd, tenant, account"
            )
    scope = values.get("scope")
    if scope not in SCOPES:
        raise document.error((*place, "scope"), f"must be one of {', '.join(SCOPES)}")
    period = _PERIOD_WORDS.get(str(values.get("period", "total")), values.get("period", "total"))
    if period not in PERIODS:
        raise document.error((*place, "period"), f"must be one of {', '.join(PERIODS)}")
    return Budget(
        scope=scope,
        period=period,
        limit=_limit(document, (*place, "limit_usd"), values.get("limit_usd")),
        tenant=_name(document, (*place, "tenant"), values.get("tenant", "")),
        account=_name(document, (*place, "account"), values.get("account", "")),
    )


def _limit(document: Document, place: Place, value: Any) -> Pico:
    expect(document, place, value, (int, float, str), "an amount in US dollars")
    try:
        limit = pico(Decimal(str(value)))
    except (InvalidOperation, ValueError, OverflowError):
        raise document.error(place, "must be an amount in US dollars") from None
    if limit <= 0:
        raise document.error(place, "must be more than 0")
    return limit


def _name(document: Document, place: Place, value: Any) -> str:
    return str(expect(document, place, value, str, "a name"))
