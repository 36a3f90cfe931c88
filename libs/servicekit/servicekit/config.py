"""Configuration: one frozen object per service, read from the environment once, in `__main__`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)


class ConfigError(Exception):
    """A variable is wrong. One line each: `VARIABLE: what is wrong; what it may be`."""


class ServiceConfig(BaseSettings):
    """What every service is configured with; a service's own class adds its variables.

    Each field has its variable's name as `validation_alias` and says in its `description` what it may be. A
    subclass declares `address` again, with `POINTSMAN_<SERVICE>_ADDRESS` as the alias and its default.
    Making one directly takes arguments by field name and never looks at the environment.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        # An empty line in `.env` or compose.yaml means "not set".
        env_ignore_empty=True,
    )

    address: str = Field(
        description="host:port to listen on, such as 127.0.0.1:7001; port 0 takes a free one"
    )
    passport_keys: Path = Field(
        validation_alias="POINTSMAN_PASSPORT_KEYS",
        description="path of jwks.json, the public keys that passports are verified with",
    )
    passport_key: Path = Field(
        validation_alias="POINTSMAN_PASSPORT_KEY",
        description="directory with this service's private key <service>.pem",
    )
    data_dir: Path = Field(
        default=Path("data"),
        validation_alias="POINTSMAN_DATA_DIR",
        description="directory for everything that must survive a restart",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        validation_alias="POINTSMAN_LOG_LEVEL",
        description="debug, info, warning or error",
    )
    metrics_address: str = Field(
        default="",
        validation_alias="POINTSMAN_METRICS_ADDRESS",
        pattern=r"^$|^[^:/]+:[0-9]+$",
        description="host:port to serve Prometheus metrics on, such as 127.0.0.1:9001; empty for none",
    )

    public_hosts: str = Field(
        default="",
        validation_alias="POINTSMAN_PUBLIC_HOSTS",
        pattern=r"^[A-Za-z0-9_.,*\- ]*$",
        description="names that clients call the installation by, such as agents.example.com,*.example.org; "
        "HTTP endpoints answer for these, localhost, IP addresses and names without a dot",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from arguments alone; `load` is the only reader of an environment."""
        return (init_settings,)


Config = TypeVar("Config", bound=ServiceConfig)


class _Environment(EnvSettingsSource):
    """Reads the given mapping instead of `os.environ`."""

    def __init__(self, config_class: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(config_class)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items() if value != ""}


def load(config_class: type[Config], environ: Mapping[str, str]) -> Config:
    """Read the configuration. Raises ConfigError with a line for each variable that is wrong."""
    try:
        return config_class(**_Environment(config_class, environ)())
    except SettingsError as error:
        # Its message has the field's name and nothing of the value.
        name = str(error).split('"')[1]
        raise ConfigError(_line(config_class, name, "is not the JSON it should be")) from None
    except ValidationError as error:
        lines = [
            _line(config_class, str(problem["loc"][0]) if problem["loc"] else "", _complaint(problem["msg"]))
            for problem in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise ConfigError("\n".join(lines)) from None


def _complaint(message: str) -> str:
    """Turn pydantic's message into one that fits after a variable's name. It never holds the value."""
    if message == "Field required":
        return "is not set"
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _line(config_class: type[ServiceConfig], name: str, complaint: str) -> str:
    """Write the line for a problem; `name` is the field's name or its variable's."""
    for field_name, info in config_class.model_fields.items():
        variable = str(info.validation_alias or field_name.upper())
        if name.lower() in (field_name, variable.lower()):
            return f"{variable}: {complaint}" + (f"; {info.description}" if info.description else "")
    return f"configuration: {complaint}"
