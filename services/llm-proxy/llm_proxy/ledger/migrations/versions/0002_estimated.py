"""Whether the tokens of a call are an estimate."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, where it is missing. Calls of earlier versions count as reported."""
    columns = sa.inspect(op.get_bind()).get_columns("llm_calls")
    if any(column["name"] == "estimated" for column in columns):
        return
    op.add_column("llm_calls", sa.Column("estimated", sa.Integer(), nullable=False, server_default="0"))
