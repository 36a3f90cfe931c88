"""Providers' credentials: where they come from, and that they are never shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from servicekit.config import ConfigError

REFERENCE: Final = "os.environ/"

ANTHROPIC_KEYS: Final = ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")
"""Either will do; the first that is set is used, in the order that Claude Code itself has."""

_PREFIX: Final = "sk-ant-"

# Providers whose models answer without a credential.
_KEYLESS: Final = frozenset(
    {"demo", "ollama", "ollama_chat", "lm_studio", "vllm", "hosted_vllm", "llamafile"}
)

# Shorter values would be found in ordinary text.
_SECRET_LENGTH: Final = 8


class Secrets:
    """The environment's credentials. Prints as nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {name: value.strip() for name, value in environ.items()}
        self._values: set[str] = set()

    def __repr__(self) -> str:
        return "Secrets()"

    def get(self, name: str) -> str | None:
        """Return the variable's value; None when it is unset or empty."""
        return self._environ.get(name) or None

    def credential(self, name: str) -> str | None:
        """Return a variable's value that must never be shown."""
        value = self.get(name)
        if value is not None:
            self.hide(value)
        return value

    def hide(self, value: Any) -> None:
        """Remember that this text must never be shown."""
        if isinstance(value, str) and len(value) >= _SECRET_LENGTH:
            self._values.add(value)

    def redact(self, text: str) -> str:
        """Return the text without any credential that is known here."""
        for value in self._values:
            if value in text:
                text = text.replace(value, "[redacted]")
        return text

    def check_anthropic(self) -> None:
        """Raise ConfigError when a credential of Anthropic's is not one."""
        for name in ANTHROPIC_KEYS:
            value = self.credential(name)
            if value is not None and not value.startswith(_PREFIX):
                raise ConfigError(
                    f"{name}: does not begin with {_PREFIX}; give all of it as Anthropic does, or unset it"
                )


def key_variables(provider: str) -> tuple[str, ...]:
    """Return the variables that may hold a provider's key, the usual one first; empty when it needs none."""
    if provider in _KEYLESS:
        return ()
    if provider == "anthropic":
        return ANTHROPIC_KEYS
    return (f"{provider.upper().replace('-', '_')}_API_KEY",)
