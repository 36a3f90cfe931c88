"""What the router is configured with."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from servicekit.config import ServiceConfig


class RouterConfig(ServiceConfig):
    """The router's variables. The defaults fit `make run`."""

    address: str = Field(
        default="127.0.0.1:7101",
        validation_alias="POINTSMAN_ROUTER_ADDRESS",
        description="host:port to listen on; port 0 takes a free one",
    )
    session_address: str = Field(
        default="127.0.0.1:7102",
        validation_alias="POINTSMAN_SESSION_ADDRESS",
        description="host:port of the session service",
    )
    runner_address: str = Field(
        default="127.0.0.1:7103",
        validation_alias="POINTSMAN_RUNNER_ADDRESS",
        description="host:port of the runner, asked for its health",
    )
    llm_proxy_address: str = Field(
        default="127.0.0.1:7104",
        validation_alias="POINTSMAN_LLM_PROXY_ADDRESS",
        description="host:port of the llm-proxy's gRPC door",
    )
    api_key: SecretStr | None = Field(
        default=None,
        min_length=8,
        validation_alias="API_KEY",
        description="the installation's first key, 8 characters or more; it belongs to the tenant `default` "
        "and may do everything in it",
    )
    database_url: str = Field(
        default="",
        validation_alias="DATABASE_URL",
        description="SQLAlchemy URL; PostgreSQL is used for keys and the audit log, else a file of the "
        "router's own in POINTSMAN_DATA_DIR",
    )
    settings_file: Path | None = Field(
        default=None,
        validation_alias="POINTSMAN_ROUTER_CONFIG",
        description="path of a YAML file with issuers, limits, triage and context; default: those packaged",
    )
    audit_prompts: bool = Field(
        default=False,
        validation_alias="POINTSMAN_AUDIT_PROMPTS",
        description="true to keep prompts in the audit log, which outlives the sessions they were for",
    )
