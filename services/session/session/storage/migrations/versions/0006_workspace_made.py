"""Whether a session's workspace has something in it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema here from 0005."""
    op.add_column(
        "sessions", sa.Column("workspace_made", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.execute(
        "UPDATE sessions SET workspace_made = 1 WHERE snapshot_id <> '' OR workspace_changed > 0 "
        "OR EXISTS (SELECT 1 FROM turns WHERE turns.session_id = sessions.id AND turns.tool_ran = 1)"
    )
