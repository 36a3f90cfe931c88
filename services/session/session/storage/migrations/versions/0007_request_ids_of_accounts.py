"""Request ids are unique within an account, so that one account cannot find out another's."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema here from 0006. SQLite copies the table of turns."""
    with op.batch_alter_table("turns") as turns:
        turns.drop_constraint("turns_request_id", type_="unique")
        turns.create_unique_constraint("turns_request_id", ["tenant", "account", "request_id"])
