"""What forks, retention and fairness look things up by."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema here from 0001."""
    op.add_column(
        "sessions",
        sa.Column("workspace_changed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.create_index("accounts_by_claim", "accounts", ["tenant", "last_claim_time"], unique=False)
    op.create_index("transcripts_by_session", "transcripts", ["session_id", "position"], unique=False)
    op.create_index("turns_by_end", "turns", ["end_time"], unique=False)
