"""The tables. Times are microseconds since 1970; 0 for never."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

keys = sa.Table(
    "router_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    # SHA-256 of the secret, which has 256 random bits: nothing slower is needed.
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    # Empty: every account of the tenant.
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("creator", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("expire_time", sa.BigInteger, nullable=False),
    sa.Column("revoke_time", sa.BigInteger, nullable=False),
    # The tenant of the creator, which the request id is unique in.
    sa.Column("creator_tenant", sa.Text, nullable=False),
    sa.UniqueConstraint("creator_tenant", "request_id"),
)

audit = sa.Table(
    "router_audit",
    metadata,
    # Given by the database in the order of arrival, so a page ends at a fixed place.
    sa.Column(
        "position",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        sa.Identity(always=True),
        primary_key=True,
    ),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("principal", sa.Text, nullable=False),
    sa.Column("credential", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("source_address", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Index("router_audit_tenant", "tenant", "position"),
    sqlite_autoincrement=True,
)
