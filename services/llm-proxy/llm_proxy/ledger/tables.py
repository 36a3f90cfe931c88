"""The ledger's tables. Times are seconds since 1970, money is `money.Pico`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata: Final = MetaData()

calls: Final = Table(
    "llm_calls",
    metadata,
    Column("id", String(32), primary_key=True),
    # open: under way. settled: paid for as counted. cut: the caller left or the answer broke off, counted as
    # far as it went. failed: nothing was answered. lost: the process died under it, so nobody counted.
    Column("state", String(8), nullable=False),
    Column("instance", String(128), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("account", String(63), nullable=False),
    Column("session", String(128), nullable=False),
    Column("turn", String(128), nullable=False),
    Column("model", String(256), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("deployment", String(300), nullable=False, default=""),
    Column("start_time", Float, nullable=False),
    # While open: when the call is given up as lost, whoever it belongs to.
    Column("end_time", Float, nullable=False),
    # What is set aside for it while it is open, and was charged to budgets when it is lost.
    Column("reserved", BigInteger, nullable=False),
    # Balances that it is charged to, as JSON: [[key, period], …].
    Column("charged", Text, nullable=False),
    Column("input_tokens", BigInteger, nullable=False, default=0),
    Column("output_tokens", BigInteger, nullable=False, default=0),
    Column("cache_read_tokens", BigInteger, nullable=False, default=0),
    Column("cache_write_tokens", BigInteger, nullable=False, default=0),
    Column("cost", BigInteger, nullable=False, default=0),
    Column("retries", Integer, nullable=False, default=0),
    Column("first_token_seconds", Float),
    Column("reason", String(64), nullable=False, default=""),
    # 1 when the provider did not report the tokens, or not all, and they are an estimate.
    Column("estimated", Integer, nullable=False, default=0, server_default="0"),
    Index("llm_calls_by_tenant", "tenant", "end_time"),
    Index("llm_calls_by_session", "tenant", "session"),
    Index("llm_calls_by_turn", "turn"),
    Index("llm_calls_by_state", "state", "end_time"),
)

balances: Final = Table(
    "llm_balances",
    metadata,
    Column("key", String(400), primary_key=True),
    Column("period", String(16), primary_key=True),
    Column("spent", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
)

session_tokens: Final = Table(
    "llm_session_tokens",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("account", String(63), nullable=False),
    Column("session", String(128), nullable=False),
    Column("turn", String(128), nullable=False),
    Column("principal", String(256), nullable=False),
    # A JSON list; empty for every model.
    Column("models", Text, nullable=False),
    # Most that its turn may spend; null for no limit of its own.
    Column("budget", BigInteger),
    Column("expire_time", Float, nullable=False),
    Column("revoked", Integer, nullable=False, default=0),
    Index("llm_session_tokens_by_session", "tenant", "session"),
    Index("llm_session_tokens_by_expire_time", "expire_time"),
)
