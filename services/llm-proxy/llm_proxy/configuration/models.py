"""The models' configuration: deployments, routing settings and budgets, out of a file in LiteLLM's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from servicekit.config import ConfigError

from llm_proxy.configuration.budgets import MoneySettings, read_money
from llm_proxy.configuration.document import Document, Place, expect, mappings, read_document
from llm_proxy.configuration.secrets import REFERENCE, Secrets, key_variables
from llm_proxy.configuration.settings import RoutingSettings, read_settings

_log = structlog.get_logger("llm_proxy.configuration")

_SECTIONS: Final = ("model_list", "router_settings", "litellm_settings", "pointsman_settings")
# Settings of LiteLLM's own server, whose work Pointsman does its own way.
_IGNORED: Final = ("general_settings",)


@dataclass(frozen=True)
class Deployment:
    """One place where a model can be asked. `group` is the name that it is asked for by, maybe a wildcard."""

    id: str
    group: str
    model: str
    """As LiteLLM spells it, with the provider; a wildcard when `group` is one."""
    params: Mapping[str, Any] = field(repr=False)
    """LiteLLM's other parameters, references to the environment resolved."""
    info: Mapping[str, Any]
    missing: tuple[str, ...] = ()
    """Variables of which one has to be set before it can be asked; empty when it can."""

    @property
    def provider(self) -> str:
        """The part of `model` before the first slash."""
        return self.model.partition("/")[0]


@dataclass(frozen=True)
class ModelsConfiguration:
    """All that the file says."""

    deployments: tuple[Deployment, ...]
    routing: RoutingSettings
    money: MoneySettings


def read_models(path: Path, secrets: Secrets) -> ModelsConfiguration:
    """Read the file. Raises ConfigError with the file, the line and the setting that is wrong."""
    document = read_document(path)
    secrets.check_anthropic()
    for section in document.data:
        if section in _IGNORED:
            _log.warning(
                "section ignored",
                section=section,
                file=str(path),
                line=document.line((section,)),
                why="it is for LiteLLM's own server; Pointsman has API keys, a ledger and budgets of its own",
            )
        elif section not in _SECTIONS:
            raise document.error((str(section),), f"is not a section; those are {', '.join(_SECTIONS)}")
    deployments = _read_deployments(document, secrets)
    settings = read_settings(document)
    _check_names(document, settings, deployments)
    return ModelsConfiguration(deployments, settings, read_money(document))


def _read_deployments(document: Document, secrets: Secrets) -> tuple[Deployment, ...]:
    entries = expect(document, ("model_list",), document.data.get("model_list"), list, "a list of models")
    counts: dict[str, int] = {}
    deployments = []
    for index, entry in enumerate(entries):
        place = ("model_list", index)
        expect(document, place, entry, dict, "a mapping with model_name and litellm_params")
        for name in entry:
            if name not in ("model_name", "litellm_params", "model_info"):
                raise document.error(
                    (*place, name), "is not part of a model; those are model_name, litellm_params, model_info"
                )
        group = expect(document, (*place, "model_name"), entry.get("model_name"), str, "a model's name")
        counts[group] = counts.get(group, 0) + 1
        deployments.append(_read_deployment(document, place, entry, f"{group}#{counts[group]}", secrets))
    return tuple(deployments)


def _read_deployment(
    document: Document, place: Place, entry: Mapping[str, Any], identity: str, secrets: Secrets
) -> Deployment:
    group = entry["model_name"]
    params: dict[str, Any] = {}
    missing: tuple[str, ...] = ()
    for name, value in mappings(document, (*place, "litellm_params"), entry.get("litellm_params")):
        resolved = _resolve(value, secrets)
        if name == "api_key":
            secrets.hide(resolved)
            if resolved is None and isinstance(value, str):
                missing = (value.removeprefix(REFERENCE),)
        if resolved is not None:
            params[name] = resolved
    model = expect(
        document, (*place, "litellm_params", "model"), params.pop("model", None), str, "provider/name"
    )
    if "/" not in model:
        raise document.error(
            (*place, "litellm_params", "model"), "must name its provider, as in openai/gpt-4o"
        )
    if ("*" in group) != ("*" in model):
        raise document.error(place, "model_name and litellm_params.model must both be wildcards, or neither")
    _forbid(document, place, params)
    if "api_key" not in params and not missing:
        params, missing = _with_key(model, params, secrets)
    info = dict(mappings(document, (*place, "model_info"), entry.get("model_info")))
    return Deployment(str(info.get("id", identity)), group, model, params, info, missing)


def _with_key(model: str, params: dict[str, Any], secrets: Secrets) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Take the key from the provider's usual variable; the second part names those that could hold it."""
    variables = key_variables(model.partition("/")[0])
    for variable in variables:
        key = secrets.credential(variable)
        if key is not None:
            return {**params, "api_key": key}, ()
    return params, variables


def _forbid(document: Document, place: Place, params: Mapping[str, Any]) -> None:
    for name in ("mock_response", "litellm_credential_name", "custom_llm_provider"):
        if name in params:
            raise document.error(
                (*place, "litellm_params", name), "is not honoured by Pointsman; take it out"
            )


def _resolve(value: Any, secrets: Secrets) -> Any:
    if isinstance(value, str) and value.startswith(REFERENCE):
        return secrets.get(value.removeprefix(REFERENCE))
    return value


def _check_names(document: Document, settings: RoutingSettings, deployments: tuple[Deployment, ...]) -> None:
    """Fallbacks and aliases must lead to models of the list."""
    groups = {deployment.group for deployment in deployments}
    prefixes = tuple(group.removesuffix("*") for group in groups if group.endswith("*"))
    tables = (settings.fallbacks, settings.context_window_fallbacks, settings.content_policy_fallbacks)
    targets = {name for table in tables for names in table.values() for name in names}
    for name in targets | set(settings.default_fallbacks) | set(settings.aliases.values()):
        if name not in groups and not (prefixes and name.startswith(prefixes)) and name != "demo/offline":
            place = ("router_settings",) if "router_settings" in document.data else ("litellm_settings",)
            raise document.error(place, f"leads to the model {name}, which is not in model_list")


__all__ = ["ConfigError", "Deployment", "ModelsConfiguration", "read_models"]
