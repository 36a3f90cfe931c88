"""The runner's configuration."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field
from servicekit.config import ServiceConfig

from runner.sandboxes.protocol import GIB, INSTANCE_TYPES, Limits

_HOST: Final = r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:[0-9]{1,5})?"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


def _seconds(value: object) -> object:
    """Read `90s`, `20m` or `1h`."""
    if isinstance(value, str) and value[-1:] in _UNITS and value[:-1].isdigit():
        return timedelta(seconds=int(value[:-1]) * _UNITS[value[-1]])
    return value


Span = Annotated[timedelta, BeforeValidator(_seconds)]


def _instances() -> int:
    """Return how many sandboxes fit: a warm one takes about 150 MiB, and half of the memory is for tools."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(2, min(60, memory // GIB))


class RunnerConfig(ServiceConfig):
    """What the runner is configured with."""

    address: str = Field(
        default="127.0.0.1:7103",
        validation_alias="POINTSMAN_RUNNER_ADDRESS",
        description="host:port to listen on, such as 127.0.0.1:7103",
    )
    session_address: str = Field(
        default="127.0.0.1:7102",
        validation_alias="POINTSMAN_SESSION_ADDRESS",
        description="host:port of the session service",
    )
    llm_proxy_address: str = Field(
        default="127.0.0.1:7104",
        validation_alias="POINTSMAN_LLM_PROXY_ADDRESS",
        description="host:port of llm-proxy's gRPC",
    )
    llm_proxy_http_address: str = Field(
        default="127.0.0.1:7105",
        validation_alias="POINTSMAN_LLM_PROXY_HTTP_ADDRESS",
        description="host:port of llm-proxy's Messages API",
    )
    sandbox: Literal["auto", "bubblewrap", "docker"] = Field(
        default="auto",
        validation_alias="SANDBOX",
        description="auto, bubblewrap or docker",
    )
    sandbox_image: str = Field(
        default="pointsman-sandbox",
        validation_alias="POINTSMAN_SANDBOX_IMAGE",
        min_length=1,
        description="the image of Docker's sandboxes, such as pointsman-sandbox",
    )
    docker_runtime: str = Field(
        default="",
        validation_alias="POINTSMAN_DOCKER_RUNTIME",
        description="the runtime of Docker's sandboxes, such as runsc; empty for the engine's own",
    )
    instance_type: Literal["lite", "basic", "standard-1", "standard-2", "standard-3", "standard-4"] = Field(
        default="standard-1",
        validation_alias="POINTSMAN_INSTANCE_TYPE",
        description="lite, basic, standard-1, standard-2, standard-3 or standard-4",
    )
    max_instances: int = Field(
        default_factory=_instances,
        validation_alias="POINTSMAN_MAX_INSTANCES",
        ge=1,
        le=1000,
        description="sandboxes that may be alive at once, 1 to 1000",
    )
    mcp_config: Path | None = Field(
        default=None,
        validation_alias="POINTSMAN_MCP_CONFIG",
        description='path of a JSON file {"mcpServers": {name: …}} with the MCP servers that turns may name',
    )
    egress_allow: str = Field(
        default="",
        validation_alias="POINTSMAN_EGRESS_ALLOW",
        pattern=rf"^$|^{_HOST}(,{_HOST})*$",
        description="hosts that sessions may ask for: files.example.com,*.example.org,git.example.net:22; "
        "without a port 80 and 443; empty for none",
    )
    pool_size: int = Field(
        default=1,
        validation_alias="POINTSMAN_POOL_SIZE",
        ge=0,
        le=100,
        description="agents kept booted for new sessions, 0 to 100; each takes about 150 MiB",
    )
    pool_templates: int = Field(
        default=4,
        validation_alias="POINTSMAN_POOL_TEMPLATES",
        ge=0,
        le=100,
        description="templates, those used last, that have an agent kept booted each, 0 to 100",
    )
    pause_after: Span = Field(
        default=timedelta(seconds=30),
        validation_alias="POINTSMAN_PAUSE_AFTER",
        description="how long an idle sandbox keeps running before it is frozen, such as 30s",
    )
    sleep_after: Span = Field(
        default=timedelta(minutes=20),
        validation_alias="POINTSMAN_SLEEP_AFTER",
        description="how long an idle sandbox is kept before it is hibernated, such as 20m",
    )
    sandbox_wait: Span = Field(
        default=timedelta(minutes=5),
        validation_alias="POINTSMAN_SANDBOX_WAIT",
        description="how long a turn waits for a sandbox when all are busy, such as 5m",
    )

    workspace_entries: int = Field(
        default=200_000,
        validation_alias="POINTSMAN_WORKSPACE_ENTRIES",
        ge=1_000,
        le=10_000_000,
        description="files, folders and links that one workspace may have, 1000 to 10000000",
    )
    snapshot_dir: Path | None = Field(
        default=None,
        validation_alias="POINTSMAN_SNAPSHOT_DIR",
        description="directory for snapshots, which runners may share; default: below POINTSMAN_DATA_DIR",
    )

    @property
    def limits(self) -> Limits:
        """What one sandbox may use."""
        return replace(INSTANCE_TYPES[self.instance_type], workspace_entries=self.workspace_entries)
