"""Settings of the router, out of `router_settings` and `litellm_settings`: each is honoured or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from llm_proxy.configuration.document import Document, Place, expect, mappings
from llm_proxy.configuration.retry_policy import RetryPolicy, policy_timeout, read_retry_policy

STRATEGIES: Final = ("simple-shuffle", "least-busy")


@dataclass(frozen=True)
class RoutingSettings:
    """How calls are routed. Seconds throughout."""

    strategy: str = "simple-shuffle"
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float = 30.0
    """Without a byte from the provider."""
    retry_after: float = 0.0
    """The shortest pause before another attempt."""
    allowed_fails: int = 1
    cooldown_time: float = 5.0
    disable_cooldowns: bool = False
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    context_window_fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    content_policy_fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default_fallbacks: tuple[str, ...] = ()
    max_fallbacks: int = 5
    aliases: Mapping[str, str] = field(default_factory=dict)
    cache: bool = False
    cache_seconds: float = 600.0
    drop_params: bool = True


_NUMBERS: Final = {
    "timeout": "timeout",
    "stream_timeout": "timeout",
    "request_timeout": "timeout",
    "retry_after": "retry_after",
    "cooldown_time": "cooldown_time",
}
_COUNTS: Final = {"allowed_fails": "allowed_fails", "max_fallbacks": "max_fallbacks"}
_SWITCHES: Final = {
    "disable_cooldowns": "disable_cooldowns",
    "cache_responses": "cache",
    "cache": "cache",
    "drop_params": "drop_params",
}
_FALLBACKS: Final = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
_RETRIES: Final = ("num_retries", "retry_policy")

# What a file may say because it is so here anyway.
_ALWAYS: Final[Mapping[str, Any]] = {
    "enable_loadbalancing": True,
    "set_verbose": False,
    "use_chat_completions_url_for_anthropic_messages": True,
    "telemetry": False,
}

_REFUSED: Final = {
    "set_verbose": "would log prompts; use POINTSMAN_LOG_LEVEL",
    "debug_level": "would log prompts; use POINTSMAN_LOG_LEVEL",
    "success_callback": "would send prompts elsewhere; read the metrics and GetUsage instead",
    "failure_callback": "would send prompts elsewhere; read the metrics and GetUsage instead",
    "callbacks": "would run code from a configuration file; read the metrics and GetUsage instead",
    "max_budget": "budgets are set in pointsman_settings.budgets",
    "budget_duration": "budgets are set in pointsman_settings.budgets",
    "redis_url": "replicas share the ledger in DATABASE_URL, not Redis; leave it out",
    "redis_host": "replicas share the ledger in DATABASE_URL, not Redis; leave it out",
    "redis_port": "replicas share the ledger in DATABASE_URL, not Redis; leave it out",
    "redis_password": "replicas share the ledger in DATABASE_URL, not Redis; leave it out",
}


def read_settings(document: Document) -> RoutingSettings:
    """Read both sections. Raises ConfigError for what is wrong or would not be honoured."""
    values: dict[str, Any] = {}
    for section in ("litellm_settings", "router_settings"):
        for name, value in mappings(document, (section,), document.data.get(section)):
            _read_setting(document, (section, name), name, value, values)
    values["retries"] = read_retry_policy(document, values)
    for key in _RETRIES:
        values.pop(key, None)
    timeout = policy_timeout(document)
    if timeout is not None:
        values.setdefault("timeout", timeout)
    return RoutingSettings(**values)


def _read_setting(document: Document, place: Place, name: str, value: Any, values: dict[str, Any]) -> None:
    if name in _ALWAYS and value == _ALWAYS[name]:
        return
    if name in _NUMBERS:
        expect(document, place, value, (int, float), "a number of seconds")
        if value < 0 or (value == 0 and _NUMBERS[name] == "timeout"):
            raise document.error(place, "must be more than 0")
        values[_NUMBERS[name]] = float(value)
    elif name in _COUNTS:
        values[_COUNTS[name]] = _count(document, place, value)
    elif name in _SWITCHES:
        values[_SWITCHES[name]] = expect(document, place, value, bool, "true or false")
    elif name == "routing_strategy":
        values["strategy"] = _strategy(document, place, value)
    elif name in _FALLBACKS:
        values[name] = _fallbacks(document, place, value)
    elif name == "default_fallbacks":
        values[name] = _names(document, place, value)
    elif name == "model_group_alias":
        values["aliases"] = _aliases(document, place, value)
    elif name == "cache_params":
        values["cache_seconds"] = _cache_seconds(document, place, value)
    elif name in _RETRIES:
        values[name] = (place, value)
    else:
        raise document.error(
            place, _REFUSED.get(name, "is not a setting that Pointsman honours; take it out of the file")
        )


def _count(document: Document, place: Place, value: Any) -> int:
    if expect(document, place, value, int, "a whole number") < 0:
        raise document.error(place, "must be 0 or more")
    return int(value)


def _strategy(document: Document, place: Place, value: Any) -> str:
    if value not in STRATEGIES:
        raise document.error(place, f"must be one of {', '.join(STRATEGIES)}")
    return str(value)


def _names(document: Document, place: Place, value: Any) -> tuple[str, ...]:
    expect(document, place, value, list, "a list of model names")
    return tuple(
        expect(document, (*place, index), name, str, "a model's name") for index, name in enumerate(value)
    )


def _fallbacks(document: Document, place: Place, value: Any) -> Mapping[str, tuple[str, ...]]:
    expect(document, place, value, list, "a list such as [{a: [b, c]}]")
    table: dict[str, tuple[str, ...]] = {}
    for index, entry in enumerate(value):
        for model, names in mappings(document, (*place, index), entry):
            where = (*place, index, model)
            if "*" in model:
                raise document.error(
                    where, "a wildcard never matches here; name the models, or use default_fallbacks"
                )
            table[model] = _names(document, where, names)
    return table


def _aliases(document: Document, place: Place, value: Any) -> Mapping[str, str]:
    return {
        alias: expect(document, (*place, alias), model, str, "the name of a model of the list")
        for alias, model in mappings(document, place, value)
    }


def _cache_seconds(document: Document, place: Place, value: Any) -> float:
    seconds = RoutingSettings.cache_seconds
    for name, item in mappings(document, place, value):
        where = (*place, name)
        if name == "type":
            if item != "local":
                raise document.error(where, "must be local: answers are cached in memory only")
        elif name == "ttl":
            seconds = float(expect(document, where, item, (int, float), "a number of seconds"))
        else:
            raise document.error(where, "is not a setting that Pointsman honours; take it out of the file")
    return seconds
