"""What `make run` is configured with, read once from the environment and `.env`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from servicekit.config import ConfigError

from supervisor.edge import HOST_NAME

Host = Annotated[str, StringConstraints(pattern=rf"^({HOST_NAME})$")]
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$")]


class Settings(BaseModel):
    """The supervisor's variables. What only one service reads goes to that service as it is."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, validate_default=True)

    port: int = Field(default=8080, ge=1, le=65535, alias="PORT", description="a port from 1 to 65535")
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        alias="POINTSMAN_HOST",
        description="the address to listen on; 0.0.0.0 for every interface of this machine",
    )
    data_dir: Path = Field(
        default=Path("data"), alias="POINTSMAN_DATA_DIR", description="a directory for all state"
    )
    api_key: SecretStr | None = Field(
        default=None,
        min_length=8,
        alias="API_KEY",
        description="8 characters or more; unset for a generated one",
    )
    sandbox: Literal["auto", "bubblewrap", "docker"] = Field(
        default="auto", alias="SANDBOX", description="auto, bubblewrap or docker"
    )
    metrics_address: str | None = Field(
        default=None,
        pattern=r"^[^:/]+:[0-9]{1,5}$",
        alias="POINTSMAN_METRICS_ADDRESS",
        description="host:port of the first of five in a row, such as 127.0.0.1:9001",
    )
    cors_origins: tuple[Origin, ...] = Field(
        default=(),
        alias="CORS_ORIGINS",
        description="origins with a comma between them, such as https://app.example.com,http://localhost:5173",
    )

    public_hosts: tuple[Host, ...] = Field(
        default=(),
        alias="POINTSMAN_PUBLIC_HOSTS",
        description="names that clients call this installation by, with a comma between them, such as "
        "agents.example.com,*.agents.example.com",
    )
    tls_cert: FilePath | None = Field(
        default=None,
        alias="POINTSMAN_TLS_CERT",
        description="a PEM file with the certificate and its chain; POINTSMAN_TLS_KEY goes with it",
    )
    tls_key: FilePath | None = Field(
        default=None,
        alias="POINTSMAN_TLS_KEY",
        description="a PEM file with the certificate's private key; POINTSMAN_TLS_CERT goes with it",
    )

    @field_validator("tls_key")
    @classmethod
    def _both_or_none(cls, key: Path | None, others: ValidationInfo) -> Path | None:
        if (key is None) != (others.data.get("tls_cert") is None):
            raise ValueError("one without the other")
        return key

    @field_validator("cors_origins", "public_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def read_environment(environ: Mapping[str, str], dotenv: Path) -> dict[str, str]:
    """Return the variables: those of the file, and over them those of the environment. Empty is not set."""
    from_file = {name: value or "" for name, value in dotenv_values(dotenv).items()}
    return {name: value for name, value in {**from_file, **environ}.items() if value != ""}


def load(environ: Mapping[str, str]) -> Settings:
    """Read the settings. Raises ConfigError with a line for each variable that is wrong."""
    try:
        return Settings.model_validate(dict(environ))
    except ValidationError as error:
        raise ConfigError("\n".join(_line(str(problem["loc"][0])) for problem in error.errors())) from None


def _line(place: str) -> str:
    """Write the line for a problem at a variable, or at the field of one that is not set."""
    for name, field in Settings.model_fields.items():
        if place in (name, field.alias):
            return f"{field.alias}: it is not what it should be: {field.description}"
    return f"{place}: it is not what it should be"
