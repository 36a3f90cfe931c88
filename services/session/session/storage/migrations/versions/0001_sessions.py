"""Accounts, sessions, turns, their events and what belongs to them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "accounts",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("max_concurrent_turns", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_key", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("last_claim_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "account"),
    )
    op.create_table(
        "events",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("turn_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("create_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "sequence"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "permissions",
        sa.Column("turn_id", sa.Text(), nullable=False),
        sa.Column("permission_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("decision", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("decided", sa.LargeBinary(), nullable=False),
        sa.Column("delivered", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("turn_id", "permission_id"),
    )
    op.create_index("permissions_by_session", "permissions", ["session_id"], unique=False)
    op.create_index(
        "permissions_waiting",
        "permissions",
        ["expire_time"],
        unique=False,
        sqlite_where=sa.text("decision = 0"),
        postgresql_where=sa.text("decision = 0"),
    )
    op.create_table(
        "requests",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "request_id"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("phase", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("title", sa.LargeBinary(), nullable=False),
        sa.Column("preferred_model", sa.Text(), nullable=False),
        sa.Column("preferred_set", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("forked_from", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_activity_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("agent_state", sa.LargeBinary(), nullable=False),
        sa.Column("usage", sa.LargeBinary(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("hold_until", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "sessions_by_account",
        "sessions",
        ["tenant", "account", "phase", "last_activity_time", "id"],
        unique=False,
    )
    op.create_index(
        "sessions_by_tenant", "sessions", ["tenant", "phase", "last_activity_time", "id"], unique=False
    )
    op.create_index("sessions_to_purge", "sessions", ["phase", "expire_time"], unique=False)
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("title", sa.LargeBinary(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("complete", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("snapshots_by_session", "snapshots", ["session_id", "create_time", "id"], unique=False)
    op.create_table(
        "transcripts",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("transcript_id", sa.Text(), nullable=False),
        sa.Column("subpath", sa.Text(), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("write_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("position"),
    )
    op.create_index(
        "transcripts_in_order",
        "transcripts",
        ["session_id", "project", "transcript_id", "subpath", "position"],
        unique=False,
    )
    op.create_index(
        "transcripts_once",
        "transcripts",
        ["session_id", "project", "transcript_id", "subpath", "uuid"],
        unique=True,
        sqlite_where=sa.text("uuid <> ''"),
        postgresql_where=sa.text("uuid <> ''"),
    )
    op.create_table(
        "turns",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("prompt", sa.LargeBinary(), nullable=False),
        sa.Column("context", sa.LargeBinary(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("route", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("options", sa.LargeBinary(), nullable=False),
        sa.Column("may_escalate", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("temporary", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("position_key", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("told_position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_owner", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_expires", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("runner_index", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tool_ran", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cancel_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("create_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("start_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("end_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("transcript_position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("snapshot_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.Column("usage", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant", "request_id", name="turns_request_id"),
    )
    op.create_index(
        "turns_active",
        "turns",
        ["tenant", "account", "state", "position_key"],
        unique=False,
        sqlite_where=sa.text("state IN (1, 2)"),
        postgresql_where=sa.text("state IN (1, 2)"),
    )
    op.create_index("turns_by_session", "turns", ["session_id", "create_time", "id"], unique=False)
    op.create_index(
        "turns_one_running",
        "turns",
        ["session_id"],
        unique=True,
        sqlite_where=sa.text("state = 2"),
        postgresql_where=sa.text("state = 2"),
    )
