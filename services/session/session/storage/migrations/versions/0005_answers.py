"""An index by which a session's newest answers are found, however many turns it has had."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema here from 0004."""
    op.create_index("turns_by_answer", "turns", ["session_id", "route", "state", "start_time"], unique=False)
