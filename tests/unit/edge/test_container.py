"""The edge's container gets from compose.yaml what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from supervisor.edge_container import edge_of

COMPOSE = Path(__file__).resolve().parents[3] / "deploy" / "compose.yaml"


@pytest.fixture
def services():
    return yaml.safe_load(COMPOSE.read_text())["services"]


def test_compose_gives_the_edge_every_address(services):
    environ = {
        **services["edge"]["environment"],
        "CORS_ORIGINS": " https://a.example, ",
        "POINTSMAN_TRUSTED_PROXIES": "1",
    }
    edge = edge_of(environ)
    assert edge.router == "router:7101"
    assert edge.llm_proxy_http == "llm-proxy:7105"
    assert edge.cors_origins == ["https://a.example"]
    assert edge.trusted_proxies == 1


def test_a_missing_address_is_named(services):
    environ = dict(services["edge"]["environment"])
    del environ["POINTSMAN_SESSION_ADDRESS"]
    with pytest.raises(KeyError, match="POINTSMAN_SESSION_ADDRESS"):
        edge_of(environ)


def test_only_the_edge_is_published_and_only_llm_proxy_has_providers_keys(services):
    assert [name for name, service in services.items() if "ports" in service] == ["edge"]
    holders = {
        name for name, service in services.items() if "ANTHROPIC_API_KEY" in service.get("environment", {})
    }
    assert holders == {"llm-proxy"}
    for name, service in services.items():
        if name != "keys":
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
