"""Whom a call is billed to, and which budgets that touches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from llm_proxy.configuration.budgets import Budget
from llm_proxy.ledger.money import Pico


@dataclass(frozen=True)
class Payer:
    """Whom a call is billed to. `session` and `turn` are resource names, empty outside of one."""

    tenant: str
    account: str
    session: str = ""
    turn: str = ""

    def value(self, scope: str) -> str:
        """Return the payer's own value in a scope; empty when it has none."""
        return str(getattr(self, scope))

    def key(self, scope: str) -> str:
        """Return the key of the balance in a scope. Accounts of two tenants never share one."""
        return f"{scope}:{self.tenant}" if scope == "tenant" else f"{scope}:{self.tenant}:{self.value(scope)}"


@dataclass(frozen=True, order=True)
class BalanceKey:
    """A balance: whose, and of which day or month."""

    key: str
    period: str
    scope: str = field(compare=False)


def period_label(period: str, now: float) -> str:
    """Return `2026-11-21` for a day, `2026-11` for a month, in UTC, `total` otherwise."""
    moment = datetime.fromtimestamp(now, UTC)
    return {"day": moment.strftime("%Y-%m-%d"), "month": moment.strftime("%Y-%m")}.get(period, "total")


def period_start(label: str) -> float:
    """Return when a labelled period began; 0 for `total`."""
    if label == "total":
        return 0.0
    form = "%Y-%m-%d" if label.count("-") == 2 else "%Y-%m"
    return datetime.strptime(label, form).replace(tzinfo=UTC).timestamp()


def limits(
    payer: Payer, budgets: Sequence[Budget], turn_budget: Pico | None, now: float
) -> Mapping[BalanceKey, Pico]:
    """Return the balances that a call of this payer touches, each with its limit, in one order for everybody.

    `turn_budget` is what the turn itself may cost, None for no such limit. Of two limits the lower one holds.
    """
    table: dict[BalanceKey, Pico] = {}
    own = () if turn_budget is None else (Budget("turn", "total", turn_budget),)
    for budget in (*budgets, *own):
        if budget.tenant not in ("", payer.tenant) or budget.account not in ("", payer.account):
            continue
        if not payer.value(budget.scope):
            continue
        key = BalanceKey(payer.key(budget.scope), period_label(budget.period, now), budget.scope)
        table[key] = min(budget.limit, table.get(key, budget.limit))
    return dict(sorted(table.items()))
