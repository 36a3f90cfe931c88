"""How often a turn was started again, and a session's newest workspace."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema here from 0002."""
    op.add_column(
        "sessions", sa.Column("snapshot_id", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column(
        "turns", sa.Column("restarts", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
