"""What was spent, added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Connection, Integer, case, cast, func, select

from llm_proxy.ledger.database import Database
from llm_proxy.ledger.tables import calls

DIMENSIONS: Final = ("account", "session", "turn", "model", "provider", "day")

_DAY_SECONDS: Final = 86_400


@dataclass(frozen=True)
class UsageFilter:
    """Which calls to add up. Empty and None mean all; times are seconds since 1970, the end exclusive."""

    tenant: str
    account: str = ""
    session: str = ""
    turn: str = ""
    start_time: float | None = None
    end_time: float | None = None


async def report(
    database: Database, wanted: UsageFilter, group_by: Sequence[str]
) -> Sequence[Mapping[str, Any]]:
    """Return one row for each combination of the dimensions, in their order, with its sums.

    `day` is the number of days since 1970. Calls under way are not in it; lost ones count as failed, with no
    tokens, because nobody counted them.
    """
    groups = [_dimension(name).label(name) for name in group_by]
    failed = calls.c.state.in_(("failed", "lost"))
    query = (
        select(
            *groups,
            func.count().label("calls"),
            *(_sum(calls.c[name]).label(name) for name in _SUMS),
            _sum(case((failed, 1), else_=0)).label("failed"),
            func.avg(calls.c.end_time - calls.c.start_time).label("latency"),
            func.avg(calls.c.first_token_seconds).label("first_token"),
        )
        .where(calls.c.state != "open", *_conditions(wanted))
        .group_by(*groups)
        .order_by(*groups)
    )

    def job(connection: Connection) -> Sequence[Mapping[str, Any]]:
        return [dict(row) for row in (connection.execute(query)).mappings()]

    return await database.run(job)


_SUMS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost",
    "retries",
    "estimated",
)


def _sum(column: ColumnElement[Any]) -> ColumnElement[int]:
    # PostgreSQL adds up integers into numerics, which are whole all the same.
    return cast(func.coalesce(func.sum(column), 0), BigInteger)


def _dimension(name: str) -> ColumnElement[Any]:
    if name == "day":
        return cast(func.floor(calls.c.end_time / _DAY_SECONDS), Integer)
    column: ColumnElement[Any] = calls.c[name]
    return column


def _conditions(wanted: UsageFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [calls.c.tenant == wanted.tenant]
    for name in ("account", "session", "turn"):
        value = getattr(wanted, name)
        if value:
            conditions.append(calls.c[name] == value)
    if wanted.start_time is not None:
        conditions.append(calls.c.end_time >= wanted.start_time)
    if wanted.end_time is not None:
        conditions.append(calls.c.end_time < wanted.end_time)
    return conditions
