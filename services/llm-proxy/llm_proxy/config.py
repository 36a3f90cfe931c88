"""What llm-proxy is configured with, read from the environment once."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from servicekit.config import ServiceConfig

_DEFAULT_MODELS = Path(__file__).resolve().parents[3] / "deploy" / "litellm.yaml"


class Config(ServiceConfig):
    """The configuration of llm-proxy."""

    address: str = Field(
        default="127.0.0.1:7104",
        validation_alias="POINTSMAN_LLM_PROXY_ADDRESS",
        description="host:port to serve gRPC on, such as 127.0.0.1:7104; port 0 takes a free one",
    )
    http_address: str = Field(
        default="127.0.0.1:7105",
        validation_alias="POINTSMAN_LLM_PROXY_HTTP_ADDRESS",
        pattern=r"^[^:/]+:[0-9]+$",
        description="host:port to serve the Messages API on, such as 127.0.0.1:7105; port 0 takes a free one",
    )
    models_file: Path = Field(
        default=_DEFAULT_MODELS,
        validation_alias="POINTSMAN_LLM_CONFIG",
        description="path of the models' configuration, a YAML file in LiteLLM's format",
    )
    default_model: str = Field(
        default="",
        validation_alias="MODEL",
        description="the model of turns that name none: one of the configuration, as provider/name",
    )
    database_url: str = Field(
        default="",
        validation_alias="DATABASE_URL",
        description="postgresql+asyncpg://… for a ledger that replicas share; empty for a file",
    )

    @property
    def ledger_url(self) -> str:
        """The SQLAlchemy URL of the ledger."""
        if self.database_url.startswith("postgresql"):
            return self.database_url.replace("postgresql://", "postgresql+asyncpg://", 1)
        return f"sqlite:///{(self.data_dir / 'llm-proxy' / 'ledger.db').resolve()}"
