"""Calls, balances and session tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables, where an installation from before there were versions does not have them."""
    op.create_table(
        "llm_calls",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("instance", sa.String(128), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("account", sa.String(63), nullable=False),
        sa.Column("session", sa.String(128), nullable=False),
        sa.Column("turn", sa.String(128), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("deployment", sa.String(300), nullable=False),
        sa.Column("start_time", sa.Float(), nullable=False),
        sa.Column("end_time", sa.Float(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("charged", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("first_token_seconds", sa.Float()),
        sa.Column("reason", sa.String(64), nullable=False),
        if_not_exists=True,
    )
    _index("llm_calls_by_tenant", "llm_calls", "tenant", "end_time")
    _index("llm_calls_by_session", "llm_calls", "tenant", "session")
    _index("llm_calls_by_turn", "llm_calls", "turn")
    _index("llm_calls_by_state", "llm_calls", "state", "end_time")
    op.create_table(
        "llm_balances",
        sa.Column("key", sa.String(400), primary_key=True),
        sa.Column("period", sa.String(16), primary_key=True),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "llm_session_tokens",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("account", sa.String(63), nullable=False),
        sa.Column("session", sa.String(128), nullable=False),
        sa.Column("turn", sa.String(128), nullable=False),
        sa.Column("principal", sa.String(256), nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("budget", sa.BigInteger()),
        sa.Column("expire_time", sa.Float(), nullable=False),
        sa.Column("revoked", sa.Integer(), nullable=False),
        if_not_exists=True,
    )
    _index("llm_session_tokens_by_session", "llm_session_tokens", "tenant", "session")
    _index("llm_session_tokens_by_expire_time", "llm_session_tokens", "expire_time")


def _index(name: str, table: str, *columns: str) -> None:
    op.create_index(name, table, list(columns), if_not_exists=True)
