"""Templates, what sessions take over from them, and accounts that are known by their sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema here from 0003."""
    # The two databases write an empty sequence of bytes in ways that the other one misunderstands.
    nothing = sa.text("x''" if op.get_bind().dialect.name == "sqlite" else "''")
    for name in ("sandbox_settings", "turn_options"):
        op.add_column("sessions", sa.Column(name, sa.LargeBinary(), server_default=nothing, nullable=False))
    op.add_column(
        "sessions", sa.Column("from_snapshot_id", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.create_table(
        "templates",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("phase", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("title", sa.LargeBinary(), nullable=False),
        sa.Column("description", sa.LargeBinary(), nullable=False),
        sa.Column("preferred_model", sa.Text(), nullable=False),
        sa.Column("sandbox_settings", sa.LargeBinary(), nullable=False),
        sa.Column("turn_options", sa.LargeBinary(), nullable=False),
        sa.Column("source_session_id", sa.Text(), nullable=False),
        sa.Column("source_snapshot_id", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("create_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "templates_by_name",
        "templates",
        ["tenant", "name", "account"],
        unique=True,
        sqlite_where=sa.text("phase = 1"),
        postgresql_where=sa.text("phase = 1"),
    )
    op.create_index("templates_to_purge", "templates", ["phase", "expire_time"], unique=False)
    # A fork that was being made does not know what it is made of any more; its request makes no other one.
    op.execute("UPDATE sessions SET phase = 3 WHERE phase = 2")
    op.execute(
        "INSERT INTO accounts (tenant, account) SELECT DISTINCT tenant, account FROM sessions WHERE true "
        "ON CONFLICT DO NOTHING"
    )
