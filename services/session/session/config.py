"""Configuration of the session service."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator
from servicekit.config import ServiceConfig

_DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}


class SessionConfig(ServiceConfig):
    """What the session service is configured with."""

    address: str = Field(
        default="127.0.0.1:7102",
        validation_alias="POINTSMAN_SESSION_ADDRESS",
        description="host:port to listen on",
    )
    router_address: str = Field(
        default="127.0.0.1:7101",
        validation_alias="POINTSMAN_ROUTER_ADDRESS",
        description="host:port of the router, which keeps the audit log",
    )
    runner_address: str = Field(
        default="127.0.0.1:7103",
        validation_alias="POINTSMAN_RUNNER_ADDRESS",
        description="host:port of the runner service",
    )
    llm_proxy_address: str = Field(
        default="127.0.0.1:7104",
        validation_alias="POINTSMAN_LLM_PROXY_ADDRESS",
        description="host:port of the llm-proxy service",
    )
    database_url: str = Field(
        default="",
        validation_alias="DATABASE_URL",
        description="sqlite:///path or postgresql://user:password@host/name; empty for a file in the data "
        "directory",
    )
    max_running_turns: PositiveInt = Field(
        default=32,
        validation_alias="POINTSMAN_MAX_RUNNING_TURNS",
        description="how many turns run at once on this replica, 1 or more",
    )
    max_concurrent_turns: PositiveInt = Field(
        default=1,
        validation_alias="POINTSMAN_MAX_CONCURRENT_TURNS",
        description="how many turns an account runs at once unless it has its own limit, 1 or more",
    )
    max_queued_turns: PositiveInt = Field(
        default=100,
        validation_alias="POINTSMAN_MAX_QUEUED_TURNS",
        description="how many turns of one account may wait, 1 or more",
    )
    lease_seconds: PositiveFloat = Field(
        default=6.0,
        validation_alias="POINTSMAN_LEASE_SECONDS",
        description="after how many seconds of silence another replica takes over a turn",
    )
    runner_patience_seconds: PositiveFloat = Field(
        default=30.0,
        validation_alias="POINTSMAN_RUNNER_PATIENCE_SECONDS",
        description="how many seconds a runner may be out of reach before its turns count as interrupted",
    )
    # Clients count a stream that is silent for twelve seconds as broken.
    keep_alive_seconds: PositiveFloat = Field(
        default=5.0,
        le=5.0,
        validation_alias="POINTSMAN_KEEP_ALIVE_SECONDS",
        description="after how many quiet seconds a stream of events sends keep_alive, 5 at most",
    )

    forkable_turns: PositiveInt = Field(
        default=10,
        validation_alias="POINTSMAN_FORKABLE_TURNS",
        description="how many workspaces, as turns left them, a session keeps to be forked from, 1 or more",
    )
    session_snapshots: PositiveInt = Field(
        default=50,
        validation_alias="POINTSMAN_SESSION_SNAPSHOTS",
        description="how many snapshots a session may have, those of its turns aside, 1 or more",
    )
    session_snapshot_bytes: PositiveInt = Field(
        default=3 * 1024**3,
        validation_alias="POINTSMAN_SESSION_SNAPSHOT_BYTES",
        description="bytes that a session's snapshots may have in all, 1 or more",
    )
    tenant_snapshots: PositiveInt = Field(
        default=1000,
        validation_alias="POINTSMAN_TENANT_SNAPSHOTS",
        description="how many snapshots and templates a tenant may have, 1 or more",
    )
    tenant_snapshot_bytes: PositiveInt = Field(
        default=20 * 1024**3,
        validation_alias="POINTSMAN_TENANT_SNAPSHOT_BYTES",
        description="bytes that a tenant's snapshots and templates may have in all, 1 or more",
    )
    event_days: NonNegativeFloat = Field(
        default=0.0,
        validation_alias="POINTSMAN_EVENT_DAYS",
        description="how many days after the end of their turn events are kept; 0 keeps them for ever",
    )

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if not value:
            return value
        try:
            url = sa.make_url(value)
        except sa.exc.ArgumentError:
            raise ValueError("is no database URL") from None
        backend = url.get_backend_name() if url.drivername not in _DRIVERS else url.drivername
        if backend not in _DRIVERS:
            raise ValueError("names a database that is neither SQLite nor PostgreSQL")
        if backend == "sqlite" and not url.database:
            raise ValueError("must name a file: a database in memory loses what was acknowledged")
        return url.set(drivername=_DRIVERS[backend]).render_as_string(hide_password=False)

    @property
    def database(self) -> str:
        """The URL of the database, with the driver we use."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'session' / 'pointsman.db'}"

    @property
    def events_kept(self) -> timedelta | None:
        """How long events are kept; None for ever."""
        return timedelta(days=self.event_days) if self.event_days else None

    @property
    def lease(self) -> timedelta:
        """How long a lease is valid."""
        return timedelta(seconds=self.lease_seconds)
