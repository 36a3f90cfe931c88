"""The router's YAML: what is wrong is named, and secrets come from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from router.context.http import HttpSettings
from router.settings import load_settings
from servicekit.config import ConfigError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "router.yaml"
    path.write_text(text)
    return path


def test_the_packaged_file_is_right():
    settings = load_settings(None)
    assert settings.triage.rules
    assert settings.context == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("limits: {default: {turns_per_minute: -1}}", "limits.default.turns_per_minute"),
        ("triage: {rules: [{name: x, outcome: maybe}]}", "triage.rules.0.outcome"),
        ("triage: {rules: [{name: x, outcome: agent, when: {pattern: '('}}]}", "triage.rules.0.when.pattern"),
        ("surprise: 1", "surprise"),
        ("issuers: [{issuer: x, audience: y, algorithms: [HS256]}]", "issuers.0.algorithms"),
        ("context: [{name: x, kind: http, url: 'http://{account}/'}]", "context.0.http.url"),
        ("context: [{name: x, kind: ftp}]", "context.0"),
        ("{", "is not YAML (line"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, text, told):
    with pytest.raises(ConfigError) as mistake:
        load_settings(write(tmp_path, text))
    assert told in str(mistake.value)
    assert str(mistake.value).startswith("POINTSMAN_ROUTER_CONFIG: ")


def test_secrets_come_from_the_environment_and_are_never_shown(tmp_path):
    text = "context: [{name: x, kind: http, url: 'http://h/', headers: {a: 'Bearer ${TOKEN}'}}]"
    provider = load_settings(write(tmp_path, text), {"TOKEN": "s3cret"}).context[0]
    assert isinstance(provider, HttpSettings)
    assert provider.headers["a"].get_secret_value() == "Bearer s3cret"
    assert "s3cret" not in repr(provider)
    with pytest.raises(ConfigError, match="TOKEN: is not set"):
        load_settings(write(tmp_path, text), {})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_settings(tmp_path / "none.yaml")
