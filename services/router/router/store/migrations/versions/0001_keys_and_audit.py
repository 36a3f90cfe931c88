"""API keys and the audit log, which nothing can change."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _time(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "router_keys",
        sa.Column("id", sa.Text(), primary_key=True),
        _text("tenant"),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        *(_text(name) for name in ("title", "role", "scopes", "account", "creator", "request_id")),
        *(_time(name) for name in ("create_time", "expire_time", "revoke_time")),
        _text("creator_tenant"),
        sa.UniqueConstraint("creator_tenant", "request_id"),
    )
    op.create_table(
        "router_audit",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=True),
            primary_key=True,
        ),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        _text("tenant"),
        _time("create_time"),
        *(_text(name) for name in ("principal", "credential", "account", "method", "resource")),
        *(_text(name) for name in ("source_address", "code", "reason", "request_id", "prompt")),
        sa.Index("router_audit_tenant", "tenant", "position"),
        sqlite_autoincrement=True,
    )
    _append_only()


def _append_only() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION router_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER router_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON router_audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION router_audit_is_append_only()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER router_audit_no_{verb.lower()} BEFORE {verb} ON router_audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )
