"""The ledger: money is set aside before a call and settled after it, each in one durable transaction."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from pointsman.errors.v1 import errors_pb2
from servicekit.errors import Failure
from servicekit.statement import Statement
from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from llm_proxy.configuration.budgets import Budget
from llm_proxy.ledger.database import Database
from llm_proxy.ledger.jobs import IN_LOOP, Job, TakesLong
from llm_proxy.ledger.money import Pico, dollars
from llm_proxy.ledger.scopes import BalanceKey, Payer, limits, period_start
from llm_proxy.ledger.tables import balances, calls
from llm_proxy.messages.usage import TokenUsage

# No call lasts longer; one that is still open then belonged to a process that died.
LONGEST_CALL_SECONDS: Final = 3600.0

# Calls that ended while the database was away: an hour of a busy installation. Beyond it they become lost.
_OWED_LIMIT: Final = 10_000
# Of these, reservations to undo: while the database is away every new call may leave one.
_OWED_UNDOS: Final = 5_000

_OPEN: Final = Statement(insert(calls))
_SETTLED: Final = (
    "state", "end_time", "model", "provider", "deployment", "input_tokens", "output_tokens",
    "cache_read_tokens", "cache_write_tokens", "cost", "retries", "first_token_seconds", "reason",
    "estimated",
)  # fmt: skip
_SETTLE: Final = Statement(
    update(calls)
    .where((calls.c.id == bindparam("call")) & (calls.c.state == literal_column("'open'")))
    .values({name: bindparam(name) for name in _SETTLED})
)
_BALANCE: Final = (balances.c.key == bindparam("balance")) & (balances.c.period == bindparam("label"))
_RESERVED: Final = balances.c.reserved
_TAKE: Final = Statement(
    update(balances)
    .where(_BALANCE & (balances.c.spent + _RESERVED < bindparam("most")))
    .values(reserved=_RESERVED + bindparam("amount"))
)
_PAY: Final = Statement(
    update(balances)
    .where(_BALANCE)
    .values(reserved=_RESERVED - bindparam("amount"), spent=balances.c.spent + bindparam("paid"))
)
# What a lost call cost is not known, and what was set aside for it was charged.
_CHARGED: Final = case((calls.c.state == "lost", calls.c.reserved), else_=calls.c.cost)


@dataclass(frozen=True)
class Reservation:
    """A call that may be made now: its row in the ledger is durable."""

    id: str
    amount: Pico
    charged: Sequence[BalanceKey]
    start_time: float


@dataclass(frozen=True)
class Outcome:
    """How a call went. `state` is settled, cut or failed; `first_token_seconds` is None when none came."""

    state: str
    model: str
    """The model that answered: a fallback's, when one took over."""
    usage: TokenUsage
    cost: Pico
    deployment: str = ""
    retries: int = 0
    first_token_seconds: float | None = None
    reason: str = ""
    estimated: bool = False
    """Whether tokens of it are an estimate."""


class Ledger:
    """Keeps the account of all calls of this installation."""

    def __init__(
        self,
        database: Database,
        budgets: Sequence[Budget],
        instance: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._budgets = budgets
        self._instance = instance
        self._clock = clock
        self._owed: deque[Job[None]] = deque()

    def limited(self, payer: Payer, turn_budget: Pico | None) -> bool:
        """Whether any budget applies to this payer's calls."""
        return bool(limits(payer, self._budgets, turn_budget, self._clock()))

    async def reserve(
        self, payer: Payer, model: str, most: Pico, turn_budget: Pico | None = None
    ) -> Reservation:
        """Set aside what the call may cost, and write it down. Raises Failure BUDGET_EXCEEDED.

        A call is allowed while anything is left of each of its budgets, so a budget is overspent by one call
        at most, whatever runs at the same time. Who leaves meanwhile gets the money back.
        """
        now = self._clock()
        touched = limits(payer, self._budgets, turn_budget, now)
        # Unique is enough: nobody is let in for knowing it. Better random numbers cost a system call.
        reservation = Reservation(f"{random.getrandbits(128):032x}", most, tuple(touched), now)

        row = self._row(reservation, payer, model)

        def job(connection: Connection) -> None:
            _take(connection, payer, touched, most)
            _OPEN.run(connection, row)

        # A power cut may take away the last tenth of a second's calls; a process that dies takes none.
        self._database.check_room()
        try:
            await self._database.run(job, fsynced=False)
        except (asyncio.CancelledError, Failure) as error:
            if _may_be_done(error):
                left = Outcome("failed", model, TokenUsage(), 0, reason="CALL_CANCELLED")
                undo = self._settling(reservation, left)
                self._database.unattended(undo, failed=partial(self._owe, undo, _OWED_UNDOS))
            raise
        return reservation

    async def check(self, payer: Payer, turn_budget: Pico | None = None) -> None:
        """Raise Failure BUDGET_EXCEEDED unless a call would be allowed now. Sets nothing aside."""
        touched = limits(payer, self._budgets, turn_budget, self._clock())
        if touched:
            await self._database.run(partial(_take, payer=payer, touched=touched, amount=0), fsynced=False)

    def _row(self, reservation: Reservation, payer: Payer, model: str) -> dict[str, object]:
        return {
            "id": reservation.id,
            "state": "open",
            "instance": self._instance,
            "tenant": payer.tenant,
            "account": payer.account,
            "session": payer.session,
            "turn": payer.turn,
            "model": model,
            "provider": model.partition("/")[0],
            "deployment": "",
            "start_time": reservation.start_time,
            "end_time": reservation.start_time + LONGEST_CALL_SECONDS,
            "reserved": reservation.amount,
            "charged": json.dumps([(key.key, key.period) for key in reservation.charged]),
            "input_tokens": 0,
            "output_tokens": 0,
            "cache_read_tokens": 0,
            "cache_write_tokens": 0,
            "cost": 0,
            "retries": 0,
            "first_token_seconds": None,
            "reason": "",
            "estimated": 0,
        }

    async def settle(self, reservation: Reservation, outcome: Outcome) -> None:
        """Write down how the call went and give back what it did not need. Settling twice changes nothing.

        It is done also when the caller is cancelled meanwhile. Raises Failure DATABASE_UNAVAILABLE or
        DISK_FULL; then `settle_owed` tries it again.
        """
        job = self._settling(reservation, outcome)
        try:
            await self._database.insist(job)
        except Failure:
            self._owe(job, _OWED_LIMIT)
            raise

    def _settling(self, reservation: Reservation, outcome: Outcome) -> Job[None]:
        values: dict[str, object] = {
            "call": reservation.id,
            "state": outcome.state,
            "end_time": self._clock(),
            "model": outcome.model,
            "provider": outcome.model.partition("/")[0],
            "deployment": outcome.deployment,
            "input_tokens": outcome.usage.input_tokens,
            "output_tokens": outcome.usage.output_tokens,
            "cache_read_tokens": outcome.usage.cache_read_tokens,
            "cache_write_tokens": outcome.usage.cache_write_tokens,
            "cost": outcome.cost,
            "retries": outcome.retries,
            "first_token_seconds": outcome.first_token_seconds,
            "reason": outcome.reason,
            "estimated": int(outcome.estimated),
        }

        def job(connection: Connection) -> None:
            if _SETTLE.run(connection, values).rowcount:
                pairs = [(key.key, key.period) for key in reservation.charged]
                _pay(connection, pairs, reservation.amount, outcome.cost)

        return job

    def _owe(self, job: Job[None], limit: int) -> None:
        if len(self._owed) < limit:
            self._owed.append(job)

    async def settle_owed(self) -> None:
        """Settle the calls that the database was away for. Raises Failure while it still is."""
        while self._owed:
            await self._database.insist(self._owed[0])
            self._owed.popleft()

    async def recover(self, *, everything: bool) -> int:
        """Close calls whose process died: all of this instance's (`everything`, at its start), or overdue.

        What they cost is not known, so budgets are charged with what was set aside. Returns how many.
        """
        mine = calls.c.instance == self._instance if everything else calls.c.end_time < self._clock()

        def job(connection: Connection) -> int:
            rows = (
                connection.execute(
                    select(calls.c.id, calls.c.reserved, calls.c.charged).where(
                        (calls.c.state == "open") & mine
                    )
                )
            ).all()
            for row in rows:
                values = {"state": "lost", "end_time": self._clock(), "reason": "SERVICE_UNAVAILABLE"}
                connection.execute(update(calls).where(calls.c.id == row.id).values(values))
                _pay(connection, json.loads(row.charged), row.reserved, row.reserved)
            return len(rows)

        return await self._database.run(job)


def _take(connection: Connection, payer: Payer, touched: Mapping[BalanceKey, Pico], amount: Pico) -> None:
    """Set the amount aside in every balance; or in none, and raise Failure BUDGET_EXCEEDED."""
    taken: list[BalanceKey] = []
    for key, limit in touched.items():
        values = {"balance": key.key, "label": key.period, "most": limit, "amount": amount}
        if not _TAKE.run(connection, values).rowcount:
            _open_balance(connection, payer, key)
            if not _TAKE.run(connection, values).rowcount:
                _pay(connection, [(other.key, other.period) for other in taken], amount, 0)
                raise _exceeded(key, limit)
        taken.append(key)


def _open_balance(connection: Connection, payer: Payer, key: BalanceKey) -> None:
    """Make sure that the balance exists; a new one begins with what was spent before it had a budget."""
    if (connection.execute(select(balances.c.spent).where(_is(key.key, key.period)))).first() is not None:
        return
    whose = (calls.c.tenant == payer.tenant) & (calls.c[key.scope] == payer.value(key.scope))
    if connection.info.get(IN_LOOP):
        # To add up what was spent may take long, once for each balance.
        raise TakesLong
    spent = connection.scalar(
        select(func.coalesce(func.sum(_CHARGED), 0)).where(
            whose & (calls.c.start_time >= period_start(key.period))
        )
    )
    row = {"key": key.key, "period": key.period, "spent": int(spent or 0), "reserved": 0}
    # Another replica may open it at the same moment; the first one holds.
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(balances).on_conflict_do_nothing(), row)


def _pay(connection: Connection, pairs: Sequence[tuple[str, str]], reserved: Pico, cost: Pico) -> None:
    """Give back what was set aside in these balances and take the cost instead."""
    for key, period in pairs:
        values = {"balance": key, "label": period, "amount": reserved, "paid": cost}
        _PAY.run(connection, values)


def _is(key: str, period: str) -> ColumnElement[bool]:
    return (balances.c.key == key) & (balances.c.period == period)


def _may_be_done(error: BaseException) -> bool:
    """Whether a job that was submitted may have been done, or be done yet, although this was raised."""
    unavailable = errors_pb2.ERROR_REASON_DATABASE_UNAVAILABLE
    return not isinstance(error, Failure) or error.reason == unavailable


def _exceeded(key: BalanceKey, limit: Pico) -> Failure:
    when = "in all" if key.period == "total" else f"for {key.period}"
    return Failure(
        errors_pb2.ERROR_REASON_BUDGET_EXCEEDED,
        f"The budget of this {key.scope}, ${dollars(limit):.6g} {when}, is spent or set aside for "
        "calls under way. Files and conversation are kept. Go on when it is raised or its period is over.",
        scope=key.scope,
        limit_usd=f"{dollars(limit):.6g}",
    )
