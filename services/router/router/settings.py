"""The router's YAML file: what an operator decides beyond addresses and secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from servicekit.config import ConfigError

from router.admission.limits import LimitSettings
from router.context.gather import AnySettings
from router.identity.issuers import IssuerSettings
from router.triage.triage import TriageSettings

DEFAULT: Final = Path(__file__).with_name("default.yaml")
_VARIABLE: Final = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")


class Settings(BaseModel):
    """The whole file. Every section may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuers: tuple[IssuerSettings, ...] = ()
    """Who may sign JWTs for this installation."""
    limits: LimitSettings = LimitSettings()
    """How much a tenant may ask for at once."""
    context: tuple[AnySettings, ...] = ()
    """What is gathered for prompts before they run."""
    triage: TriageSettings = TriageSettings()
    """Whether a prompt needs an agent."""


def load_settings(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the file, the packaged default for None. `${NAME}` in a text is that variable's value.

    Raises ConfigError with a line for each thing that is wrong.
    """
    file = path or DEFAULT
    try:
        loaded = yaml.safe_load(file.read_text())
        return Settings.model_validate(_filled_in(loaded or {}, environ))
    except OSError as error:
        raise ConfigError(f"POINTSMAN_ROUTER_CONFIG: cannot read {file}: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise ConfigError(f"POINTSMAN_ROUTER_CONFIG: {file} is not YAML{where}") from None
    except ValidationError as error:
        lines = [
            f"POINTSMAN_ROUTER_CONFIG: {file}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise ConfigError("\n".join(lines)) from None


def _filled_in(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled_in(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled_in(item, environ) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match[1], environ), value)
    return value


def _variable(name: str, environ: Mapping[str, str]) -> str:
    if name not in environ:
        raise ConfigError(f"{name}: is not set, and POINTSMAN_ROUTER_CONFIG names it")
    return environ[name]
